"""What Terraform is told: that it parses, that names resolve, and that nobody gets more than is needed.

``terraform validate`` would need Google's provider, which is not a package. What can be known without it is checked.
"""

import re
import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest

from pipeline.config import load_config
from pipeline.vertex.config import VertexConfig

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "terraform"
TEXT = "\n".join(path.read_text() for path in sorted(FOLDER.glob("*.tf")))

# What a resource is made with, by the first word behind ``google_``.
APIS = {
    "artifact": "artifactregistry", "cloudbuild": "cloudbuild", "compute": "compute", "logging": "logging",
    "monitoring": "monitoring", "service": "iam", "storage": "storage",
}  # fmt: skip


def code() -> str:
    """Without comments, and of texts only what is interpolated."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    return re.sub(r'"([^"\\]|\\.)*"', lambda text: " ".join(re.findall(r"\$\{([^}]*)\}", text[0])), "\n".join(lines))


def declared(kind: str) -> set[str]:
    return set(re.findall(rf'^{kind} "(\w+)"', TEXT, re.MULTILINE))


def resources() -> set[tuple[str, str]]:
    return set(re.findall(r'^resource "(\w+)" "(\w+)"', TEXT, re.MULTILINE))


def local_values() -> set[str]:
    blocks = re.findall(r"^locals \{\n(.*?)^\}", TEXT, re.MULTILINE | re.DOTALL)
    return {name for block in blocks for name in re.findall(r"^  (\w+) +=", block, re.MULTILINE)}


def granted() -> set[tuple[str, str]]:
    """Kind of resource and role: on what, and what."""
    found = set()
    for kind, body in re.findall(r'^resource "(google_\w+_iam_member)" "\w+" \{\n(.*?)^\}', TEXT, re.M | re.S):
        role = re.search(r"^  role +=\s+(.+)$", body, re.M).group(1)
        lists = re.search(r"for_each = toset\(local\.(\w+)\)", body)
        text = re.search(rf"^  {lists[1]} = \[(.*?)\]", TEXT, re.M | re.S).group(1) if lists else role
        found |= {(kind, name) for name in re.findall(r'"roles/([\w.]+)"', text)}
    return found


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.tf")), ids=lambda file: file.name)
def test_files_parse(file):
    blocks = {"resource", "locals", "variable", "output", "provider", "terraform"}
    assert set(hcl2.loads(file.read_text())) - {"__comments__"} <= blocks


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")
def test_files_are_formatted(tmp_path):
    config = tmp_path / "terraformrc"
    config.touch()
    checked = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "-recursive", str(FOLDER)],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "TF_CLI_CONFIG_FILE": str(config)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_is_referred_to_exists_and_what_is_declared_is_used():
    text = code()
    assert set(re.findall(r"\b(google_\w+|terraform_data)\.(\w+)", text)) <= resources()
    assert set(re.findall(r"\bvar\.(\w+)", text)) == declared("variable")
    assert set(re.findall(r"\blocal\.(\w+)", text)) == local_values()


def test_all_that_a_run_needs_is_made():
    kinds = [kind for kind, _ in resources()]
    assert {kind: kinds.count(kind) for kind in set(kinds) if kinds.count(kind) > 1 and "iam" not in kind} == {
        "google_storage_bucket": 3,
        "google_service_account": 2,
        "google_monitoring_alert_policy": 2,
    }
    assert {"google_artifact_registry_repository", "google_cloudbuild_trigger", "google_compute_subnetwork",
            "google_logging_metric", "google_monitoring_notification_channel", "google_project_service",
            "terraform_data"} <= set(kinds)  # fmt: skip
    assert "runner_vertex.py schedule" in (FOLDER / "schedule.tf").read_text()


def test_the_api_of_every_resource_is_enabled():
    enabled = set(re.findall(r'"(\w+)\.googleapis\.com",', TEXT))
    wanted = {APIS[kind.split("_")[1]] for kind, _ in resources() - {("google_project_service", "apis")}
              if kind.startswith("google_") and not kind.startswith("google_project_")}  # fmt: skip
    assert wanted | {"aiplatform", "dataflow", "ondemandscanning"} == enabled


def test_accounts_get_no_more_than_they_need():
    on_project = {role for kind, role in granted() if kind == "google_project_iam_member"}
    assert "aiplatform.user" in on_project
    assert not {role for role in on_project if role in ("owner", "editor", "viewer")}
    # Recordings and models are given bucket by bucket, images repository by repository, accounts one by one.
    assert not {role for role in on_project if role.split(".")[0] in ("storage", "artifactregistry", "iam")}
    assert {role for role in on_project if role.endswith((".admin", "Admin"))} == {"ondemandscanning.admin"}
    assert ("google_service_account_iam_member", "iam.serviceAccountUser") in granted()
    assert not re.search(r'"(allUsers|allAuthenticatedUsers)"', TEXT)


def test_buckets_are_closed():
    buckets = re.findall(r'^resource "google_storage_bucket" "\w+" \{\n(.*?)^\}', TEXT, re.M | re.S)
    assert len(buckets) == 3
    for bucket in buckets:
        assert re.search(r"uniform_bucket_level_access += true", bucket)
        assert re.search(r'public_access_prevention += "enforced"', bucket)


def test_the_schedule_sets_what_a_run_needs():
    text = (FOLDER / "schedule.tf").read_text()
    names = {name.lower().removeprefix("ser__").replace("__", ".") for name in re.findall(r"SER__\w+", text)}
    given = dict.fromkeys(names, "gs://example/folder") | {
        "vertex.project": "example-project",
        "vertex.region": "europe-west4",
        "vertex.service_account": "a@example.com",
        "vertex.gpu_image": "image",
        "vertex.dataflow.image": "image",
        "vertex.endpoint.image": "null",
        "vertex.dataflow.subnetwork": "regions/europe-west4/subnetworks/ser",
        "vertex.schedule.cron": "0 2 * * *",
        "vertex.schedule.max_concurrent_runs": "1",
    }
    environ = {f"SER__{key.replace('.', '__').upper()}": text for key, text in given.items()}
    settings = load_config(ROOT / "configs" / "vertex.yaml", environ=environ, tree=VertexConfig).vertex
    assert settings.schedule.cron == "0 2 * * *"
    assert settings.endpoint.image is None


def test_the_outputs_are_keys_of_the_configuration():
    names = re.findall(r'^    "(vertex\.[\w.]+)"', (FOLDER / "outputs.tf").read_text(), re.M)
    settings = load_config(Path(__file__).parents[2] / "golden" / "vertex.yaml", tree=VertexConfig)
    for name in names:
        found = settings
        for part in name.split("."):
            found = getattr(found, part)
