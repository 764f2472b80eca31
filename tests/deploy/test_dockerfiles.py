"""The Dockerfiles agree with the lock and with the builds. deploy/images/check.sh runs the images."""

import re
from pathlib import Path

import pytest

from tests.deploy.dockerfile import effective, instructions, stages

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "Dockerfile"
SERVING = ROOT / "serving" / "container" / "Dockerfile"
TARGETS = ("pipeline", "gpu", "worker", "page", "airflow", None)


def locked(package: str) -> str:
    return re.search(rf"^{package}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE).group(1)


def default(argument: str) -> str:
    (value,) = [text.removeprefix(f"{argument}=") for _, text in instructions(PIPELINE) if text.startswith(argument)]
    return value


def test_the_base_images_have_the_locks_beam_and_python():
    assert default("BEAM_IMAGE").partition("@")[0] == f"apache/beam_python3.11_sdk:{locked('apache-beam')}"
    assert default("PYTHON_IMAGE").startswith("python:3.11-")


def test_the_lock_has_the_pip_that_beams_boot_program_calls():
    assert locked("pip")


@pytest.mark.parametrize("target", ["pipeline", "gpu", None])
def test_components_and_training_do_not_run_as_root(target):
    values = effective(PIPELINE, target)
    assert int(values["USER"]) > 0  # a number: Kubernetes does not look names up
    assert any(f"--uid {values['USER']} " in text for keyword, text in instructions(PIPELINE) if keyword == "RUN")
    assert "ENTRYPOINT" not in values


def test_the_page_does_not_run_as_root_and_writes_below_tmp_alone():
    values = effective(PIPELINE, "page")
    assert int(values["USER"]) > 0
    assert (values["HOME"], values["NUMBA_CACHE_DIR"], values["MPLCONFIGDIR"]) == ("/tmp", "/tmp", "/tmp")
    assert values["ENTRYPOINT"] == '["ser", "ui"]'
    assert "ENTRYPOINT" not in effective(PIPELINE, None)


def test_the_worker_starts_beams_boot_program_as_root():
    values = effective(PIPELINE, "worker")
    assert "USER" not in values
    assert values["COPY"] == "--from=beam /opt/apache/beam /opt/apache/beam"
    assert values["ENTRYPOINT"] == '["/opt/apache/beam/boot"]'
    assert values["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"] == "1"


@pytest.mark.parametrize("target", TARGETS)
def test_programs_and_nvidias_libraries_are_found(target):
    values = effective(PIPELINE, target)
    assert values["PATH"].split(":")[:2] == ["/opt/venv/bin", "/usr/local/nvidia/bin"]
    assert values["LD_LIBRARY_PATH"].split(":") == ["/usr/local/nvidia/lib64", "/usr/local/nvidia/lib"]


def test_the_environment_is_installed_once_for_all_images():
    installing = [stage.name for stage in stages(PIPELINE) if "requirements.lock" in str(stage.instructions)]
    assert installing == ["build"]
    bases = {stage.name: stage.base for stage in stages(PIPELINE)}
    assert {bases["pipeline"], bases["gpu"], bases["worker"]} == {"environment"}


@pytest.mark.parametrize("file", [PIPELINE, SERVING], ids=["pipeline", "serving"])
def test_a_builder_without_buildkit_is_enough(file):
    """Cloud Build's docker builds without it."""
    assert "# syntax=" not in file.read_text()
    names: list[str | None] = []
    for stage in stages(file):
        for keyword, text in stage.instructions:
            flags = re.findall(r"(?<=--)[a-z]+", text) if keyword in ("COPY", "ADD", "RUN") else []
            if keyword == "RUN":
                assert not text.startswith("--"), text
            else:
                assert set(flags) <= {"from", "chown"}, text
            assert "<<" not in text, text
            source = re.match(r"--from=(\S+)", text)
            assert source is None or source[1] in names, f"{text}: the stage comes later"
        names.append(stage.name)


def test_the_gpu_libraries_are_resolved_for_the_locks_tensorflow():
    text = (ROOT / "deploy" / "gpu.lock").read_text()
    assert f"tensorflow[and-cuda]=={locked('tensorflow')} " in text
    packages = re.findall(r"^(\S+)==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)
    assert "nvidia-cudnn-cu12" in packages
    assert all(package.startswith("nvidia-") for package in packages)


def test_copied_paths_exist_and_are_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = {
        source
        for file in (PIPELINE, SERVING)
        for keyword, text in instructions(file)
        if keyword == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    }
    for source in (copied - {"."}) | admitted:
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in admitted), source


def test_the_image_holds_every_package_that_setup_names():
    named = re.search(r"CODE = \((.+)\)", (ROOT / "setup.py").read_text()).group(1)
    assert {f"!{name}" for name in re.findall(r'"(\w+)"', named)} <= set((ROOT / ".dockerignore").read_text().split())


def test_the_serving_entrypoint_is_executable():
    """COPY keeps the mode; --chmod needs BuildKit."""
    assert (SERVING.parent / "entrypoint.sh").stat().st_mode & 0o111 == 0o111
