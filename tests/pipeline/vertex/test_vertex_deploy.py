"""What builds and deploys: that the files agree with each other and with the lock. None of it needs an engine."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config
from pipeline.vertex.config import VertexConfig

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def locked(package: str) -> str:
    return re.search(rf"^{package}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE).group(1)


@pytest.fixture(scope="module")
def build() -> dict:
    return yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())


def test_the_image_has_the_locks_beam_and_python():
    assert f"ARG BEAM_IMAGE=apache/beam_python3.11_sdk:{locked('apache-beam')}\n" in DOCKERFILE
    assert "ARG PYTHON_IMAGE=python:3.11-slim-trixie\n" in DOCKERFILE


def test_the_gpu_libraries_are_resolved_for_the_locks_tensorflow():
    text = (ROOT / "deploy" / "gpu.lock").read_text()
    assert f"tensorflow[and-cuda]=={locked('tensorflow')} " in text
    packages = re.findall(r"^(\S+)==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)
    assert "nvidia-cudnn-cu12" in packages
    assert all(package.startswith("nvidia-") for package in packages)


def test_what_the_dockerfile_copies_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source


def test_the_image_holds_every_package_that_setup_names():
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    named = re.search(r"CODE = \((.+)\)", (ROOT / "setup.py").read_text()).group(1)
    assert set(re.findall(r'"(\w+)"', named)) <= copied


def test_the_image_does_not_run_as_root():
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER ser$", last_stage, re.MULTILINE)
    assert 'ENTRYPOINT ["/opt/apache/beam/boot"]' in last_stage


def test_the_dockerfiles_that_are_built_exist(build):
    commands = [step["args"] for step in build["steps"] if step["args"][0] == "build"]
    files = [command[command.index("--file") + 1] if "--file" in command else "Dockerfile" for command in commands]
    assert len(files) == 3
    assert all((ROOT / file).is_file() for file in files)


def test_build_steps_wait_for_steps_that_come_before(build):
    seen = set()
    for step in build["steps"]:
        assert set(step.get("waitFor", ())) <= seen | {"-"}, step["id"]
        seen.add(step["id"])
    assert seen >= {"build", "build-gpu", "test", "push", "scan", "compile"}


def test_build_leaves_the_schedule_alone_unless_it_is_asked(build):
    step = build["steps"][-1]
    assert build["substitutions"]["_UPDATE_SCHEDULE"] == "false"
    asked = subprocess.run(
        ["bash", *step["args"][:1], step["args"][1].replace("${_UPDATE_SCHEDULE}", "false")],
        env={}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (asked.returncode, asked.stdout) == (0, "the schedule keeps its pipeline: _UPDATE_SCHEDULE is not true\n")


def test_build_uses_no_substitution_that_it_does_not_declare(build):
    used = set(re.findall(r"(?<!\$)\$\{?(_[A-Z_]+)", yaml.safe_dump(build["steps"])))
    assert used <= set(build["substitutions"])


@pytest.mark.parametrize("name", ["compile", "update-schedule"])
def test_build_sets_all_that_its_commands_need(build, name):
    (step,) = [step for step in build["steps"] if step["id"] == name]
    values = dict(re.findall(r'--set "([\w.]+)=([^"]+)"', step["args"][-1]))
    values |= {"vertex.project": "example-project", "vertex.region": "europe-west4"}
    values |= {key: re.sub(r"\$\{\w+\}", "example", text) for key, text in values.items() if "gs://" in text}
    values |= {key: f"image@sha256:{64 * '0'}" for key, text in values.items() if ".digest" in text}
    values["vertex.service_account"] = "a@example.com"
    config = load_config(
        ROOT / "configs" / "vertex.yaml", overrides=[f"{key}={text}" for key, text in values.items()], tree=VertexConfig
    )
    assert config.vertex.pipeline_root == "gs://example/root"
