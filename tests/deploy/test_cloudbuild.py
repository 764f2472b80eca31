"""cloudbuild.yaml: its substitutions by Google's rules, and its scripts with fake docker and gcloud."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.vertex.config import VertexConfig
from tests.deploy.dockerfile import stages
from tests.fakes.cloud_build import Build

ROOT = Path(__file__).parents[2]
GIVEN = {
    "_PIPELINES_BUCKET": "example-pipelines",
    "_DATA_BUCKET": "example-data",
    "_MODELS_BUCKET": "example-models",
    "_RUN_SERVICE_ACCOUNT": "ser-pipeline@example-project.iam.gserviceaccount.com",
}
IMAGES_OF_RUNS = ("pipeline", "pipeline-gpu", "pipeline-worker", "serving")
IMAGES = (*IMAGES_OF_RUNS, "page")
REGISTRY = "europe-west4-docker.pkg.dev/example-project/ser"
DIGEST = f"sha256:{64 * '1'}"


def load(**given: str) -> Build:
    return Build(ROOT / "cloudbuild.yaml", GIVEN | given)


@pytest.fixture(scope="module")
def build() -> Build:
    return load()


def write_fake(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$*" >> "{folder}/{name}.log"\n{script}\n')
    program.chmod(0o755)


@pytest.fixture
def programs(tmp_path) -> Path:
    """Fake docker and gcloud; each writes its arguments into a log, one call a line."""
    folder = tmp_path / "programs"
    folder.mkdir()
    write_fake(folder, "python", f'exec {sys.executable} "$@"')  # the real one; a link would lose its environment
    write_fake(folder, "docker", f'case "$1" in inspect) printf "%s@{DIGEST}\\n" "${{@: -1}}" ;; esac')
    write_fake(folder, "gcloud", f'case "$4" in scan) echo scan-1 ;; list-*) cat "{folder}/found" ;; esac')
    (folder / "found").touch()
    return folder


def calls(programs: Path, name: str) -> list[str]:
    return (programs / f"{name}.log").read_text().splitlines()


def write_digests(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    for image in IMAGES:
        (tmp_path / "workspace" / f"{image}.digest").write_text(f"{REGISTRY}/{image}@{DIGEST}\n")


def containers(job: dict) -> list[dict]:
    return [
        executor for executor in job["pipelineSpec"]["deploymentSpec"]["executors"].values() if "container" in executor
    ]


def test_steps_wait_for_steps_that_come_before(build):
    seen = {"-"}
    for step in build.steps.values():
        assert set(step.wait_for) <= seen, step.id
        seen.add(step.id)


def test_nothing_is_published_before_tests_checks_and_scan(build):
    def before(step_id: str) -> set[str]:
        direct = set(build.steps[step_id].wait_for) - {"-"}
        return direct.union(*(before(waited) for waited in direct))

    assert before("publish") == set(build.steps) - {"publish", "keep-images", "update-schedule"}
    assert {"publish", "keep-images"} <= before("update-schedule")
    assert {"test", "audit", "check-worker"} <= before("push")


def test_scripts_are_bash(build):
    scripts = [step.script for step in build.steps.values() if step.script]
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert not checked.returncode, checked.stderr
    assert scripts


def test_a_variable_of_the_shell_has_two_dollar_signs(build):
    for step in build.raw_steps:
        for text in (step["name"], *step["args"]):
            rest = re.sub(r"\$\$|\$\{[A-Z_][A-Z0-9_]*\}", "", text)
            assert not re.findall(r"\$(?:\{|\w*[A-Za-z_])\S*", rest), step["id"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("$HOME", "HOME"), ("${_REGION}", "'_UNUSED'"), ("${_REGION}$$ok ${_UNUSED}", None)],
)
def test_the_interpreter_refuses_bad_substitutions(text, complaint, tmp_path):
    file = tmp_path / "cloudbuild.yaml"
    step = {"id": "a", "name": "image", "args": [text]}
    content = {"substitutions": {"_REGION": "x", "_UNUSED": "y"}, "options": {}, "steps": [step]}
    file.write_text(json.dumps(content))
    if complaint is None:
        assert Build(file, {}).steps["a"].args == ("x$ok y",)
    else:
        with pytest.raises(ValueError, match=complaint):
            Build(file, {})


def test_every_image_is_built_from_a_stage_that_exists(build):
    built = {}
    for step in build.steps.values():
        if step.args[0] == "build":
            options = dict(zip(step.args[1:-1:2], step.args[2:-1:2], strict=True))
            defined = stages(ROOT / options.get("--file", "Dockerfile"))
            assert "--target" not in options or options["--target"] in {stage.name for stage in defined}
            built[options["--tag"]] = options.get("--target")
    tag = build.steps["build"].args[4].rpartition(":")[2]
    assert set(built) == {f"{REGISTRY}/{image}:{tag}" for image in IMAGES}


def test_the_worker_is_checked_as_beams_boot_program_does(build):
    step = build.steps["check-worker"]
    assert step.name in build.steps["build-worker"].args
    assert (step.entrypoint, *step.args) == ("python", "-m", "pip", "show", "apache-beam")


def test_push_records_the_digest_of_every_image(build, programs, tmp_path):
    done = build.steps["push"].run(ROOT, tmp_path, programs)
    assert not done.returncode, done.stderr
    pushed = [call for call in calls(programs, "docker") if call.startswith("push")]
    assert len(pushed) == len(IMAGES)
    for image in IMAGES:
        assert f"/{image}:" in (tmp_path / "workspace" / f"{image}.digest").read_text()


@pytest.mark.parametrize(
    ("region", "location"),
    [
        ("europe-west4", "europe"), ("africa-south1", "europe"), ("me-central1", "europe"),
        ("asia-northeast1", "asia"), ("australia-southeast1", "asia"), ("us-central1", "us"),
        ("northamerica-northeast1", "us"), ("southamerica-east1", "us"),
    ],
)  # fmt: skip
def test_images_are_scanned_where_the_service_has_a_location(region, location, programs, tmp_path):
    write_digests(tmp_path)
    done = load(_REGION=region).steps["scan"].run(ROOT, tmp_path, programs)
    assert not done.returncode, done.stderr
    scans = [call for call in calls(programs, "gcloud") if call.startswith("artifacts docker images scan")]
    assert [call.split()[4] for call in scans] == [f"{REGISTRY}/{image}@{DIGEST}" for image in IMAGES]
    assert all(f"--location={location} " in call for call in scans)


@pytest.mark.parametrize(
    ("vulnerabilities", "passes"),
    [
        ("CRITICAL\tTrue\tCVE-1", False),
        ("HIGH\tTrue\tCVE-2\nCRITICAL\tTrue\tCVE-1", False),
        ("CRITICAL\tFalse\tCVE-1", True),
        ("HIGH\tTrue\tCVE-1", True),
    ],
)
def test_a_fixable_severe_vulnerability_fails_the_build(build, vulnerabilities, passes, programs, tmp_path):
    write_digests(tmp_path)
    (programs / "found").write_text(f"{vulnerabilities}\n")
    done = build.steps["scan"].run(ROOT, tmp_path, programs)
    assert (done.returncode == 0) is passes
    assert passes or "pipeline: CRITICAL\tTrue\tCVE-1" in done.stderr


def test_a_scan_without_a_result_fails_the_build(build, programs, tmp_path):
    """gcloud's scan ends with status 0 when the extraction failed."""
    write_digests(tmp_path)
    write_fake(programs, "gcloud", "true")
    done = build.steps["scan"].run(ROOT, tmp_path, programs)
    assert done.returncode == 1
    assert "pipeline: " in done.stderr


def test_the_pipeline_is_compiled_with_the_pushed_images(build, programs, tmp_path):
    write_digests(tmp_path)
    done = build.steps["compile"].run(ROOT, tmp_path, programs)
    assert not done.returncode, done.stderr
    job = json.loads((tmp_path / "workspace" / "compiled.json").read_text())
    text = json.dumps(job)
    assert {image for image in IMAGES if f"{REGISTRY}/{image}@{DIGEST}" in text} == set(IMAGES_OF_RUNS)
    images = {executor["container"]["image"] for executor in containers(job)}
    assert images == {f"{REGISTRY}/pipeline@{DIGEST}"}
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://example-pipelines/root"


def test_the_pipeline_is_published_by_build_and_as_latest(build, programs, tmp_path):
    write_digests(tmp_path)
    done = build.steps["publish"].run(ROOT, tmp_path, programs)
    assert not done.returncode, done.stderr
    targets = [call.split()[-1] for call in calls(programs, "gcloud") if call.startswith("storage cp")]
    assert [target.rpartition("/")[0] for target in targets] == ["gs://example-pipelines/compiled"] * 2
    assert targets[-1].endswith("/latest.json")


def test_the_packages_of_every_image_are_listed_and_attached(build, programs, tmp_path):
    write_digests(tmp_path)
    write_fake(programs, "docker", 'printf "{}"')
    done = build.steps["sbom"].run(ROOT, tmp_path, programs)
    assert not done.returncode, done.stderr
    for call, image in zip(calls(programs, "docker"), IMAGES, strict=True):
        assert call.endswith(f" docker:{REGISTRY}/{image}@{DIGEST} --output cyclonedx-json@1.5")
        assert re.search(r"anchore/syft:v[\d.]+@sha256:[0-9a-f]{64} scan", call)
        assert (tmp_path / "workspace" / f"{image}.cdx.json").read_text() == "{}"
    build.steps["publish"].run(ROOT, tmp_path, programs)
    loaded = [call for call in calls(programs, "gcloud") if call.startswith("artifacts sbom load")]
    build_id = build.steps["build"].args[4].rpartition(":")[2]
    for call, image in zip(loaded, IMAGES, strict=True):
        assert call.split()[3:] == [
            f"--source={tmp_path}/workspace/{image}.cdx.json",
            f"--uri={REGISTRY}/{image}@{DIGEST}",
            f"--destination=gs://example-pipelines/compiled/{build_id}",
        ]


def test_the_schedule_stays_unless_it_is_to_be_updated(build, programs, tmp_path):
    done = build.steps["update-schedule"].run(ROOT, tmp_path, programs)
    assert not done.returncode, done.stderr
    assert not (programs / "python.log").exists()


@pytest.mark.parametrize("update", ["true", "false"])
def test_images_of_the_updated_schedule_are_tagged_as_kept(update, programs, tmp_path):
    write_digests(tmp_path)
    done = load(_UPDATE_SCHEDULE=update).steps["keep-images"].run(ROOT, tmp_path, programs)
    assert not done.returncode, done.stderr
    kept = ("pipeline", "pipeline-gpu", "pipeline-worker") if update == "true" else ()
    tagged = [call for call in calls(programs, "gcloud") if "docker tags add" in call] if kept else []
    assert tagged == [
        f"artifacts docker tags add {REGISTRY}/{image}@{DIGEST} {REGISTRY}/{image}:deployed" for image in kept
    ]
    assert kept or not (programs / "gcloud.log").exists()


def test_the_schedule_is_updated_with_the_compiled_pipeline(programs, tmp_path):
    write_fake(programs, "python", "true")
    write_digests(tmp_path)
    step = load(_UPDATE_SCHEDULE="true").steps["update-schedule"]
    assert not step.run(ROOT, tmp_path, programs).returncode
    (call,) = calls(programs, "python")
    assert call.startswith("runner_vertex.py schedule update --job ")
    values = re.findall(r"--set (\S+=\S+)", call)
    config = load_config(ROOT / "configs" / "vertex.yaml", overrides=values, tree=VertexConfig)
    assert config.vertex.dataflow.image == f"{REGISTRY}/pipeline-worker@{DIGEST}"
