"""Terraform configuration: syntax, references, alerts, buckets, and the settings that it passes to runs.

``terraform validate`` would need Google's provider, which is not a package. `make lint` runs checkov on the same files.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import runner_vertex
from cli.main import load_command
from pipeline.config import load_config
from pipeline.vertex.config import NewRecordingsSettings, VertexConfig, VertexSettings
from tests.fakes.bigquery import COLUMNS
from tests.pipeline.vertex.terraform_files import FILES, FOLDER, blocks, local_values, named, parse, resources
from tests.tools import tool

ROOT = Path(__file__).parents[3]

# The API of a resource, by the words after ``google_``.
APIS = {
    "artifact": "artifactregistry", "bigquery": "bigquery", "billing": "billingbudgets", "cloud_run": "run",
    "cloud_scheduler": "cloudscheduler", "cloudbuild": "cloudbuild", "compute": "compute", "iap": "iap",
    "logging": "logging", "monitoring": "monitoring", "pubsub": "pubsub", "service": "iam", "storage": "storage",
}  # fmt: skip
needs_terraform = pytest.mark.skipif(
    not shutil.which("terraform"), reason="terraform is not installed; Debian has no package of it"
)


def references(pattern: str) -> set[Any]:
    """Return the matches in expressions, without literal texts."""
    values = json.dumps([parse(path) for path in FILES])
    return {match for text in re.findall(r"\$\{.*?\}(?=[^}]|$)", values) for match in re.findall(pattern, text)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_parse(file):
    assert set(parse(file)) <= {"resource", "data", "locals", "variable", "output", "provider", "terraform", "check"}


def terraform(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run terraform in a folder, without the machine's settings."""
    config = folder / "terraformrc"
    config.touch()
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "TF_CLI_CONFIG_FILE": str(config)}
    return subprocess.run(
        ["terraform", *words, "-no-color"], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


@needs_terraform
def test_files_are_formatted(tmp_path):
    checked = terraform(tmp_path, "fmt", "-check", "-diff", "-recursive", str(FOLDER))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_references_resolve_and_declarations_are_used():
    assert references(r"(?<!data\.)\b(google_\w+|terraform_data)\.(\w+)") <= set(resources())
    assert references(r"\bvar\.(\w+)") == set(named("variable"))
    assert references(r"\blocal\.(\w+)") == set(local_values())


def test_the_api_of_every_resource_is_enabled():
    enabled = {api.removesuffix(".googleapis.com") for api in local_values()["apis"]}
    kinds = {kind for kind, _ in resources() if kind.startswith("google_") and not kind.startswith("google_project_")}
    assert {api for kind in kinds for words, api in APIS.items() if kind.startswith(f"google_{words}_")} | {
        "aiplatform",
        "containeranalysis",
        "dataflow",
        "logging",
        "ondemandscanning",
    } == (enabled)


def policies() -> dict[str, dict]:
    return {name: body for (kind, name), body in resources().items() if kind == "google_monitoring_alert_policy"}


def test_a_failed_run_starts_an_alert():
    (condition,) = policies()["failed_run"]["conditions"]
    assert "PIPELINE_STATE_FAILED" in condition["condition_matched_log"][0]["filter"]
    assert policies()["failed_run"]["alert_strategy"][0]["notification_rate_limit"]


def test_no_alert_requires_a_metric_of_this_project_to_exist():
    """Cloud Monitoring refuses a policy on a log-based metric for minutes after the metric was made."""
    assert "logging.googleapis.com/user/" not in json.dumps(policies())
    own = {name: alert for name, alert in local_values()["promql_alerts"].items() if "user_" in alert["expr"]}
    assert {name: alert["validate"] for name, alert in own.items()} == {"old_model": False}
    (metric,) = [body for (kind, _), body in resources().items() if kind == "google_logging_metric"]
    assert f"user_{metric['name']}[" in own["old_model"]["expr"]


def test_alerts_cover_what_prometheus_covers():
    prometheus = yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yml").read_text())
    names = {rule["alert"] for group in prometheus["groups"] for rule in group["rules"]}
    here = {
        "ErrorRate": "endpoint", "Latency": "endpoint", "RunFailed": "failed_run",
        "Drift": "drift", "ModelRejected": "rejected",
        "NoModel": "no_model", "OldModel": "old_model", "Queue": "queue", "ScheduleStopped": "schedule_stopped",
    }  # fmt: skip
    on_one_machine = {"ServingDown", "MonitorDown", "VersionFailedToLoad"}  # Vertex AI restarts and checks by itself
    assert names == set(here) | on_one_machine
    outcomes, promql = local_values()["run_outcomes"], local_values()["promql_alerts"]
    elsewhere = {"trigger_stopped"}  # one machine has no trigger
    assert {*here.values(), *elsewhere} == {"endpoint", "failed_run", *outcomes, *promql}


def test_queries_are_promql(tmp_path):
    expressions = [alert["expr"] for alert in local_values()["promql_alerts"].values()]
    expressions += local_values()["dashboard_charts"].values()
    rules = [{"record": "ser:test", "expr": re.sub(r"\$\{.*?\}", "2", expression)} for expression in expressions]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": f"{i}", "rules": [rule]} for i, rule in enumerate(rules)]}))
    command = [tool("monitoring/usr/bin/promtool"), "check", "rules", file]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_page_is_reached_through_the_proxy_alone():
    page = resources()["google_cloud_run_v2_service", "page"]
    assert page["iap_enabled"] is True
    callers = [body for (kind, _), body in resources().items() if kind == "google_cloud_run_v2_service_iam_member"]
    assert [(caller["role"], "gcp-sa-iap" in caller["member"]) for caller in callers] == [("roles/run.invoker", True)]


def test_the_page_starts_with_options_that_exist():
    (template,) = resources()["google_cloud_run_v2_service", "page"]["template"]
    (container,) = template["containers"]
    parsed = load_command("ui").make_context("ui", list(container["args"])).params
    assert (parsed["host"], parsed["port"]) == ("0.0.0.0", container["ports"][0]["container_port"])
    assert 2 * parsed["max_sessions"] == template["max_instance_request_concurrency"]


def test_buckets_are_closed():
    ((_, bucket),) = [item for item in resources().items() if item[0][0] == "google_storage_bucket"]
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == "enforced"
    assert set(local_values()["buckets"]) == {"data", "pipelines", "models"}


ENVIRONMENTS = ("dev", "staging", "prod")


def test_there_is_a_file_of_each_environment():
    assert {path.stem for path in (FOLDER / "environments").iterdir()} == set(ENVIRONMENTS)
    assert {path.stem for path in (ROOT / "configs" / "environments").iterdir()} == set(ENVIRONMENTS)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_sets_variables_and_a_configuration_that_agree(environment):
    values = parse(FOLDER / "environments" / f"{environment}.tfvars")
    assert set(values) <= set(named("variable"))
    required = {name for name, body in named("variable").items() if "default" not in body}
    assert required <= set(values)
    image = f"registry/image@sha256:{'0' * 64}"
    given = {"PROJECT": values["project"], "REGION": values["region"], "IMAGE": image, "GPU_IMAGE": image}
    given |= {
        "DATA": "gs://data/recordings",
        "PIPELINE_ROOT": "gs://pipelines/root",
        "SERVING_DIR": "gs://models/ser",
        "DATAFLOW__IMAGE": image,
    }
    given |= {"SERVICE_ACCOUNT": "ser-pipeline@my-project.iam.gserviceaccount.com"}
    environ = {f"SER__VERTEX__{key}": value for key, value in given.items()}
    file = ROOT / "configs" / "environments" / f"{environment}.yaml"
    vertex = load_config(file, environ=environ, tree=VertexConfig).vertex
    assert vertex.run_retention_days == values["run_retention_days"]
    assert vertex.labels["environment"] == environment


@needs_terraform
@pytest.mark.parametrize(
    ("given", "cause"),
    [
        *((f"-var-file={FOLDER}/environments/{name}.tfvars", None) for name in ENVIRONMENTS),
        ("-var=new_recordings={}", None),
        ("-var=new_recordings={quiet_min=0}", None),
        ("-var=new_recordings={quiet_min=60,max_wait_min=30}", "new_recordings.quiet_min must be"),
        ("-var=new_recordings={max_wait_min=10080}", "new_recordings.quiet_min must be"),
    ],
)
def test_variables_accept_what_their_descriptions_allow(tmp_path, given, cause):
    shutil.copy(FOLDER / "variables.tf", tmp_path)
    assert terraform(tmp_path, "init").returncode == 0
    required = () if "-var-file" in given else ("-var=project=my-project", "-var=alert_email=me@example.com")
    planned = terraform(tmp_path, "plan", *required, given)
    assert planned.returncode == (1 if cause else 0), planned.stdout + planned.stderr
    assert (cause or "") in planned.stderr


def test_notifications_of_new_recordings_reach_the_job():
    everything = resources()
    off = "${var.schedule == null ? null : var.new_recordings}"
    assert (named("variable")["new_recordings"]["default"], local_values()["new_recordings"]) == (None, off)
    notification = everything["google_storage_notification", "recordings"]
    assert notification["event_types"] == ["OBJECT_FINALIZE"]
    (data,) = re.findall(r'name\}/(\w+/?)"', local_values()["vertex_settings"].partition("PIPELINE_ROOT")[0])
    assert notification["object_name_prefix"] == f"{data}/"
    subscription = everything["google_pubsub_subscription", "recordings"]
    assert subscription["name"] == NewRecordingsSettings().subscription
    kept_min = int(subscription["message_retention_duration"].removesuffix("s")) / 60
    (bounds,) = NewRecordingsSettings.model_fields["max_wait_min"].metadata[1:]
    assert bounds.le < kept_min
    defaults = dict(re.findall(r"(\w+)_min\s*= optional\(number, (\d+)\)", (FOLDER / "variables.tf").read_text()))
    assert defaults == {"quiet": "30", "max_wait": "720"}


def test_a_scheduler_starts_each_job_with_a_command_that_exists():
    (outer,) = resources()["google_cloud_run_v2_job", "job"]["template"]
    (template,) = outer["template"]
    (container,) = template["containers"]
    assert container["command"] == ["python", "-m", "runner_vertex"]
    (added,) = re.fullmatch(r"\$\{concat\(each\.value\.args, (\[.+\])\)\}", container["args"]).groups()
    parsed = {}
    for key, job in local_values()["jobs"].items():
        name, *options = [*job["args"], *json.loads(added)]
        parsed[key] = typer.main.get_command(runner_vertex.app).commands[name].make_context(name, options).params
    assert {str(params["config"]) for params in parsed.values()} == {"configs/vertex.yaml"}
    assert (parsed["trigger"]["when_new"], parsed["failures"]["days"]) == (True, 7)
    assert "!configs/vertex.yaml" in (ROOT / ".dockerignore").read_text().splitlines()
    scheduler = resources()["google_cloud_scheduler_job", "job"]
    (target,) = scheduler["http_target"]
    assert target["uri"].endswith("${google_cloud_run_v2_job.job[each.key].id}:run")
    assert scheduler["schedule"] == "${each.value.cron}"
    assert local_values()["jobs"]["failures"]["cron"] == "0 * * * *"


SCHEDULE = (
    f'schedule={{image="i@sha256:{64 * "0"}",gpu_image="i@sha256:{64 * "0"}",worker_image="i@sha256:{64 * "0"}"}}'
)
LOCALS = """locals {
  new_recordings   = var.schedule == null ? null : var.new_recordings
  vertex_settings  = {}
  trigger_settings = {}
}
output "jobs" { value = keys(local.enabled_jobs) }
"""


@needs_terraform
@pytest.mark.parametrize(
    ("given", "enabled"),
    [
        ([SCHEDULE], []),
        (["new_recordings={}", "log_failed_runs=true"], []),
        ([SCHEDULE, "log_failed_runs=true"], ["failures"]),
        ([SCHEDULE, "new_recordings={}"], ["trigger"]),
    ],
)
def test_jobs_are_made_on_demand_where_a_schedule_names_the_images(tmp_path, given, enabled):
    shutil.copy(FOLDER / "variables.tf", tmp_path)
    locals_of_jobs = (FOLDER / "jobs.tf").read_text().partition("\nresource ")[0]
    (tmp_path / "jobs.tf").write_text(locals_of_jobs + LOCALS)
    assert terraform(tmp_path, "init").returncode == 0
    variables = ["project=my-project", "alert_email=me@example.com", *given]
    applied = terraform(tmp_path, "apply", "-auto-approve", *(f"-var={variable}" for variable in variables))
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert json.loads(terraform(tmp_path, "output", "-json", "jobs").stdout or "null") == enabled


def test_a_budget_is_reported_to_the_recipient_of_alerts():
    budget = resources()["google_billing_budget", "ser"]
    assert named("variable")["budget"]["default"] is None
    (rule,) = budget["all_updates_rule"]
    assert rule["monitoring_notification_channels"] == ["${google_monitoring_notification_channel.email.id}"]
    (limits,) = budget["budget_filter"]
    assert limits["projects"] == ["projects/${data.google_project.this.number}"]


def test_by_default_only_artifacts_and_uploaded_sources_are_deleted():
    assert named("variable")["recording_retention_days"]["default"] is None
    deleted = {name: bucket["delete_after_days"] for name, bucket in local_values()["buckets"].items()}
    assert deleted == {
        "data": "${var.recording_retention_days == null ? {} : {recordings = var.recording_retention_days}}",
        "pipelines": {"root": "${var.run_retention_days}", "source": 7},
        "models": {},
    }


def test_requests_are_logged_on_demand_and_deleted_after_days():
    assert named("variable")["request_log"]["default"] is None
    table = resources()["google_bigquery_table", "requests"]
    assert table["count"] == "${local.request_log_count}"
    (partitions,) = table["time_partitioning"]
    assert partitions["expiration_ms"] == "${var.request_log.retention_days * 86400000}"
    assert partitions["field"] == "logging_time"
    assert re.findall(r"name\s*=\s*\"?(\w+)", table["schema"]) == [column.name for column in COLUMNS]


def test_artifacts_are_kept_longer_than_cache_entries():
    retention = named("variable")["run_retention_days"]
    defaults = {
        name: VertexSettings.model_fields[name].default for name in ("cache_max_age_days", "run_retention_days")
    }
    assert retention["default"] == defaults["run_retention_days"]
    assert retention["validation"][0]["condition"] == (
        f"${{var.run_retention_days > {defaults['cache_max_age_days']}}}"
    )


def test_images_of_a_schedule_are_never_deleted():
    repository = resources()["google_artifact_registry_repository", "images"]
    kept = [policy for policy in repository["cleanup_policies"] if policy["action"] == "KEEP"]
    assert {"tag_state": "TAGGED", "tag_prefixes": ["deployed"]} in [
        condition for policy in kept for condition in policy.get("condition", [])
    ]
    assert "docker_config" not in repository, "an immutable tag could not move to the images of the next schedule"
    deployed = resources()["terraform_data", "deployed"]
    assert "${terraform_data.deployed}" in resources()["terraform_data", "schedule"]["depends_on"]
    images = re.findall(r"\b(\w*image) = string", named("variable")["schedule"]["type"])
    assert set(re.findall(r"var\.schedule\.(\w+)", local_values()["deployed_images"])) == set(images)
    assert deployed["for_each"] == "${local.deployed_images}"


def test_the_digest_is_tagged(tmp_path):
    """The command of the provisioner, with a ``gcloud`` that prints its arguments."""
    (provisioner,) = resources()["terraform_data", "deployed"]["provisioner"]
    command = provisioner["local-exec"]["command"].replace("$${", "${").replace('\\"', '"')
    gcloud = tmp_path / "gcloud"
    gcloud.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    gcloud.chmod(0o755)
    image = "europe-west4-docker.pkg.dev/example-project/ser/pipeline@sha256:" + "0" * 64
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": str(tmp_path), "IMAGE": image},
        capture_output=True,
        text=True,
        check=True,
    )
    repository = image.partition("@")[0]
    assert done.stdout.split() == ["artifacts", "docker", "tags", "add", image, f"{repository}:deployed"]


def test_the_schedule_sets_all_required_keys():
    texts = [local_values()[name] for name in ("vertex_settings", "schedule_settings", "trigger_settings")]
    names = re.findall(r"\bSER__\w+", " ".join([*texts, str(local_values()["request_log_settings"])]))
    keys = {name.lower().removeprefix("ser__").replace("__", ".") for name in names}
    given = dict.fromkeys(keys, "gs://example/folder") | {
        "vertex.project": "example-project",
        "vertex.region": "europe-west4",
        "vertex.service_account": "a@example.com",
        "vertex.image": f"cpu@sha256:{64 * '0'}",
        "vertex.gpu_image": f"gpu@sha256:{64 * '0'}",
        "vertex.dataflow.image": f"worker@sha256:{64 * '0'}",
        "vertex.endpoint.image": "null",
        "vertex.endpoint.request_log": "bq://example-project.ser.requests",
        "vertex.endpoint.request_log_rate": "0.1",
        "drift.request_log": "bq://example-project.ser.requests",
        "vertex.run_retention_days": "90",
        "vertex.dataflow.subnetwork": "regions/europe-west4/subnetworks/ser",
        "vertex.schedule.cron": "0 2 * * *",
        "vertex.schedule.max_concurrent_runs": "1",
        "vertex.new_recordings.subscription": "ser-recordings",
        "vertex.new_recordings.quiet_min": "30",
        "vertex.new_recordings.max_wait_min": "720",
    }
    assert keys <= set(given)
    environ = {f"SER__{key.replace('.', '__').upper()}": text for key, text in given.items()}
    settings = load_config(ROOT / "configs" / "vertex.yaml", environ=environ, tree=VertexConfig).vertex
    assert settings.schedule.cron == "0 2 * * *"
    assert settings.endpoint.image is None


def test_the_outputs_are_keys_of_the_configuration():
    settings = load_config(Path(__file__).parents[2] / "golden" / "vertex.yaml", tree=VertexConfig)
    names = named("output")["vertex_settings"]["value"]
    assert len(names) > 5
    for name in names:
        value = settings
        for part in name.split("."):
            value = getattr(value, part)


def test_state_is_kept_in_a_bucket():
    (terraform,) = [block for block in blocks("terraform") if "backend" in block]
    assert "gcs" in terraform["backend"][0]
