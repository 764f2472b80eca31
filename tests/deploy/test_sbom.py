"""The list of packages that `make sbom` writes."""

import json
import re
import subprocess

from tests.paths import ROOT
from tests.tools import tool

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) ", re.MULTILINE)


def test_every_package_of_the_lock_is_in_the_sbom_with_its_hashes(tmp_path):
    command = [tool("checks/bin/cyclonedx-py"), "requirements", ROOT / "requirements.lock", "--output-file"]
    subprocess.run([*command, tmp_path / "sbom.json"], check=True, capture_output=True)
    components = json.loads((tmp_path / "sbom.json").read_text())["components"]
    pinned = set(PINNED.findall((ROOT / "requirements.lock").read_text()))
    assert {(each["name"], each["version"]) for each in components} == pinned
    assert all(reference["hashes"] for each in components for reference in each["externalReferences"])
