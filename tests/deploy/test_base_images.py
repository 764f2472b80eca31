"""Images of others that builds, services and checks start from: each is named by its digest."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.dockerfile import instructions
from tests.paths import ROOT

DOCKERFILES = ("Dockerfile", "serving/container/Dockerfile")
DIGEST = re.compile(r".+:.+@sha256:[0-9a-f]{64}")
# Their digests were not found without access to a registry; `make digests` writes them.
WITHOUT_DIGEST = {
    "apache/beam_python3.11_sdk:2.77.0": "one program is copied from it; Beam's releases keep their tags",
    "tensorflow/serving:2.21.0": "TF Serving's releases keep their tags",
    "gcr.io/google.com/cloudsdktool/google-cloud-cli:latest": "replaced every week; it is part of no image",
    "gcr.io/google.com/cloudsdktool/google-cloud-cli:slim": "replaced every week; it is part of no image",
}
# Systems that CI tests the set-up on, in their current state.
SYSTEMS = {"debian:12", "debian:13", "ubuntu:24.04"}


def of_dockerfile(path: Path) -> set[str]:
    """Return the images that the stages of a Dockerfile start from, arguments replaced by their defaults."""
    arguments = dict(text.split("=", 1) for keyword, text in instructions(path) if keyword == "ARG" and "=" in text)
    bases, stages = set(), set()
    for keyword, text in instructions(path):
        if keyword == "FROM":
            base, _, name = text.partition(" AS ")
            bases.add(re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base))
            stages.add(name)
    return bases - stages


def of_compose(path: Path) -> set[str]:
    """Return the images of services that are not built."""
    services = yaml.safe_load(path.read_text())["services"].values()
    return {service["image"] for service in services if "build" not in service}


def of_cloud_build(path: Path) -> set[str]:
    """Return the images of steps that the build does not make, and those of substitutions."""
    build = yaml.safe_load(path.read_text())
    given = {value for key, value in build["substitutions"].items() if key.endswith("_IMAGE")}
    return given | {step["name"] for step in build["steps"] if not step["name"].startswith("${")}


def of_workflow(path: Path) -> set[str]:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return {system for job in jobs for system in job["strategy"]["matrix"]["system"]}


def named_below(folder: Path) -> set[str]:
    dockerfiles = set().union(*(of_dockerfile(folder / file) for file in DOCKERFILES))
    return dockerfiles | of_compose(folder / "compose.yaml") | of_cloud_build(folder / "cloudbuild.yaml")


def without_digest(images: set[str]) -> set[str]:
    return {image for image in images if not DIGEST.fullmatch(image)}


def test_every_image_has_a_digest_or_a_named_exception():
    assert without_digest(named_below(ROOT)) == set(WITHOUT_DIGEST)


def test_ci_runs_on_the_named_systems_only():
    assert of_workflow(ROOT / ".github" / "workflows" / "ci.yml") == SYSTEMS


@pytest.fixture
def copies(tmp_path):
    """A checkout with the files that name images, and skopeo in front of PATH, which answers with one digest."""
    for file in (*DOCKERFILES, "compose.yaml", "cloudbuild.yaml", "deploy/images/digests.sh"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "skopeo").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho sha256:{64 * "2"}\n')
    (tmp_path / "skopeo").chmod(0o755)
    return tmp_path


def renew(copies):
    environ = {"PATH": f"{copies}:/usr/bin:/bin"}
    subprocess.run([copies / "deploy/images/digests.sh"], env=environ, check=True, capture_output=True)


def test_renewing_writes_the_digest_of_every_image_once(copies):
    before = {image.partition("@")[0] for image in named_below(copies)}
    renew(copies)
    assert named_below(copies) == {f"{image}@sha256:{64 * '2'}" for image in before}
    assert {call.split("docker://")[1] for call in (copies / "calls").read_text().splitlines()} == before
    renew(copies)
    assert named_below(copies) == {f"{image}@sha256:{64 * '2'}" for image in before}
