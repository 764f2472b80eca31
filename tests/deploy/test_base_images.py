"""Images of others that builds, services and checks start from: each is named by its digest."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deploy.dockerfile import instructions
from tests.fakes.listeners import wait_for_port
from tests.paths import ROOT
from tests.tools import tool

DOCKERFILES = ("Dockerfile", "serving/container/Dockerfile")
DIGEST = re.compile(r".+:.+@sha256:[0-9a-f]{64}")
# Their digests were not found without access to a registry; `make digests` writes them.
WITHOUT_DIGEST = {
    "apache/beam_python3.11_sdk:2.77.0": "one program is copied from it; Beam's releases keep their tags",
    "tensorflow/serving:2.21.0": "TF Serving's releases keep their tags",
    "gcr.io/google.com/cloudsdktool/google-cloud-cli:latest": "replaced every week; it is part of no image",
    "gcr.io/google.com/cloudsdktool/google-cloud-cli:slim": "replaced every week; it is part of no image",
}
OCI = "application/vnd.oci.image"
MIRROR = """[[registry]]
prefix = "{name}"
location = "{registry}/{name}"
insecure = true
"""
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
def checkout(tmp_path):
    """Folder with the script and the files that name images."""
    folder = tmp_path / "checkout"
    for file in (*DOCKERFILES, "compose.yaml", "cloudbuild.yaml", "deploy/images/digests.sh"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


@pytest.fixture
def registry(tmp_path, unused_tcp_port):
    """Docker's registry on this machine, without images: its address."""
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": f"127.0.0.1:{unused_tcp_port}"},
    }
    (tmp_path / "registry.yml").write_text(yaml.safe_dump(config))
    command = [tool("registry/usr/bin/docker-registry"), "serve", tmp_path / "registry.yml"]
    with (tmp_path / "registry.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        wait_for_port(unused_tcp_port, process)
        yield f"127.0.0.1:{unused_tcp_port}"
        process.terminate()


def push(registry: str, image: str, revision: str) -> str:
    """Push an image for two platforms, below the name of its own registry; return the digest of the list of both."""
    if not image.startswith("gcr.io/"):
        image = f"docker.io/{image}" if "/" in image else f"docker.io/library/{image}"
    repository, tag = image.split(":")
    with httpx.Client(base_url=f"http://{registry}/v2/{repository}") as client:
        platforms = [{"architecture": architecture, "os": "linux"} for architecture in ("amd64", "arm64")]
        manifests = []
        for platform in platforms:
            content = json.dumps(platform | {"config": {"Labels": {"revision": revision}}}).encode()
            config = {"mediaType": f"{OCI}.config.v1+json", "digest": digest(content), "size": len(content)}
            place = client.post("/blobs/uploads/").raise_for_status().headers["Location"]
            client.put(f"{place}&digest={digest(content)}", content=content).raise_for_status()
            manifest = {"mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": []}
            manifests.append(put(client, manifest) | {"platform": platform})
        return put(client, {"mediaType": f"{OCI}.index.v1+json", "manifests": manifests}, tag)["digest"]


def put(client: httpx.Client, manifest: dict, tag: str | None = None) -> dict:
    """Store a manifest under a tag, or its digest, and return its descriptor."""
    content = json.dumps({"schemaVersion": 2, **manifest}).encode()
    media_type = manifest["mediaType"]
    path = f"/manifests/{tag or digest(content)}"
    client.put(path, content=content, headers={"Content-Type": media_type}).raise_for_status()
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def renew(checkout: Path, registry: str) -> subprocess.CompletedProcess[str]:
    """Run the script with skopeo, which finds the images of all registries in this one."""
    settings = checkout.parent / "home/.config/containers/registries.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("\n".join(MIRROR.format(name=name, registry=registry) for name in ("docker.io", "gcr.io")))
    environ = {"HOME": str(checkout.parent / "home"), "PATH": f"{tool('registry/bin/skopeo').parent}:/usr/bin:/bin"}
    command = [checkout / "deploy/images/digests.sh"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_renewing_writes_the_digest_of_every_image_in_the_registry(checkout, registry):
    images = {image.partition("@")[0] for image in named_below(checkout)}
    for revision in ("1", "2"):
        expected = {f"{image}@{push(registry, image, revision)}" for image in images}
        done = renew(checkout, registry)
        assert done.returncode == 0, done.stderr
        assert named_below(checkout) == expected


def test_an_image_that_its_registry_does_not_have_fails_the_renewal(checkout, registry):
    done = renew(checkout, registry)
    assert done.returncode != 0
    assert "manifest unknown" in done.stderr
