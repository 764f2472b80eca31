"""The list of packages that `make sbom` writes."""

import json
import re
import subprocess

from tests.paths import ROOT
from tests.tools import tool

# Prints the first error of CycloneDX's own validation, or None.
CHECK = """if True:
    import pathlib, sys
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    text, version = pathlib.Path(sys.argv[1]).read_text(), sys.argv[2]
    print(JsonStrictValidator(SchemaVersion.from_version(version)).validate_str(text))
"""
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) ", re.MULTILINE)


def test_every_package_of_the_lock_is_in_the_sbom_with_its_hashes(tmp_path):
    command = [tool("checks/bin/cyclonedx-py"), "requirements", ROOT / "requirements.lock", "--output-file"]
    subprocess.run([*command, tmp_path / "sbom.json"], check=True, capture_output=True)
    sbom = json.loads((tmp_path / "sbom.json").read_text())
    check = [tool("checks/bin/python"), "-c", CHECK, tmp_path / "sbom.json", sbom["specVersion"]]
    assert subprocess.run(check, check=True, capture_output=True, text=True).stdout.strip() == "None"
    components = sbom["components"]
    pinned = set(PINNED.findall((ROOT / "requirements.lock").read_text()))
    assert {(each["name"], each["version"]) for each in components} == pinned
    assert all(reference["hashes"] for each in components for reference in each["externalReferences"])
