"""The roles that ``iam.tf`` grants have the permissions of every call, and no others.

Contents of roles come from ``iam_roles.json``, permissions of calls from ``gcp/map.json`` of the same
data set, else from Google's page "Vertex AI access control with IAM".
"""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.vertex import methods
from tests.fakes.vertex_endpoints import Cloud
from tests.fakes.vertex_metadata import Metadata
from tests.fakes.vertex_runs import CustomJobs, Pipelines, Schedules
from tests.pipeline.vertex.terraform_files import instances, resources

ROLES: dict[str, list[str]] = json.loads(Path(__file__).with_name("iam_roles.json").read_text())["roles"]

PIPELINE, BUILD = "pipeline", "build"
ANYWHERE = "project"
DATA, RUNS, MODELS, COMPILED, SOURCE, IMAGES, ACCOUNT = (
    "data", "pipelines", "models", "pipelines/compiled/", "pipelines/source/", "images", "ser-pipeline",
)  # fmt: skip

# Methods of Vertex AI, as the fakes name them.
RPCS = {
    "add_context_children": ["aiplatform.contexts.addContextChildren"],
    "cancel_custom_job": ["aiplatform.customJobs.cancel"],
    "create_context": ["aiplatform.contexts.create"],
    "create_custom_job": ["aiplatform.customJobs.create"],
    "create_endpoint": ["aiplatform.endpoints.create"],
    "create_metadata_store": ["aiplatform.metadataStores.create"],
    "create_pipeline_job": ["aiplatform.pipelineJobs.create"],
    "create_schedule": ["aiplatform.schedules.create", "aiplatform.pipelineJobs.create"],
    "delete_model": ["aiplatform.models.delete"],
    "delete_model_version": ["aiplatform.models.delete"],
    "deploy_model": ["aiplatform.endpoints.deploy", "aiplatform.models.get"],
    "get_artifact": ["aiplatform.artifacts.get"],
    "get_context": ["aiplatform.contexts.get"],
    "get_custom_job": ["aiplatform.customJobs.get"],
    "get_endpoint": ["aiplatform.endpoints.get"],
    "get_execution": ["aiplatform.executions.get"],
    "get_metadata_store": ["aiplatform.metadataStores.get"],
    "get_model": ["aiplatform.models.get"],
    "get_pipeline_job": ["aiplatform.pipelineJobs.get"],
    "list_custom_jobs": ["aiplatform.customJobs.list"],
    "list_endpoints": ["aiplatform.endpoints.list"],
    "list_model_versions": ["aiplatform.models.list"],
    "list_models": ["aiplatform.models.list"],
    "list_schedules": ["aiplatform.schedules.list"],
    "merge_version_aliases": ["aiplatform.models.update"],
    "pause_schedule": ["aiplatform.schedules.update"],
    "resume_schedule": ["aiplatform.schedules.update"],
    "undeploy_model": ["aiplatform.endpoints.undeploy"],
    "update_context": ["aiplatform.contexts.update", "aiplatform.contexts.get"],
    "update_endpoint": ["aiplatform.endpoints.update", "aiplatform.endpoints.get"],
    "update_schedule": ["aiplatform.schedules.update", "aiplatform.schedules.get"],
    "upload_model": ["aiplatform.models.upload"],
}

_READ = ["storage.buckets.get", "storage.objects.get", "storage.objects.list"]
_WRITE = [*_READ, "storage.objects.create", "storage.objects.delete"]

# Everything else that an account does: where, what, with which permissions.
CALLS = [
    (PIPELINE, DATA, "TensorFlow reads recordings", _READ),
    (PIPELINE, RUNS, "TensorFlow and Beam write artifacts and temporary files, and rename them", _WRITE),
    (PIPELINE, MODELS, "the Pusher makes a folder (tf.io.gfile.makedirs gets the bucket) and writes a version", _WRITE),
    (PIPELINE, ANYWHERE, "the smoke test sends requests (rawPredict)", ["aiplatform.endpoints.predict"]),
    (PIPELINE, ANYWHERE, "DataflowRunner submits a job and follows it",
     ["dataflow.jobs.create", "dataflow.jobs.get", "dataflow.jobs.list", "dataflow.messages.list",
      "dataflow.metrics.get", "dataflow.jobs.cancel"]),
    (PIPELINE, ANYWHERE, "Dataflow's workers work",
     ["autoscaling.sites.writeMetrics", "compute.instanceGroupManagers.update", "compute.instances.delete",
      "compute.instances.setDiskAutoDelete", "dataflow.shuffle.read", "dataflow.shuffle.write",
      "dataflow.workItems.lease", "dataflow.workItems.sendMessage", "dataflow.workItems.update"]),
    (PIPELINE, ANYWHERE, "containers log and report metrics",
     ["logging.logEntries.create", "monitoring.timeSeries.create"]),
    (PIPELINE, ACCOUNT, "jobs that a run starts act as the same account", ["iam.serviceAccounts.actAs"]),
    (PIPELINE, IMAGES, "images are pulled", ["artifactregistry.repositories.downloadArtifacts"]),
    (BUILD, ANYWHERE, "the build logs", ["logging.logEntries.create"]),
    (BUILD, ANYWHERE, "images are scanned",
     ["ondemandscanning.scans.analyzePackages", "ondemandscanning.scans.listVulnerabilities",
      "ondemandscanning.operations.get"]),
    (BUILD, IMAGES, "images are pushed, and pulled by later steps",
     ["artifactregistry.repositories.uploadArtifacts", "artifactregistry.repositories.downloadArtifacts",
      "artifactregistry.tags.create", "artifactregistry.tags.update"]),
    (BUILD, SOURCE, "the source is downloaded", ["storage.objects.get"]),
    (BUILD, COMPILED, "compiled pipelines are written and replaced",
     ["storage.objects.create", "storage.objects.delete"]),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Grant:
    """Permissions of an account in a place. The project contains all places, a bucket its folders."""

    account: str
    place: str
    role: str
    permissions: frozenset[str]


def _quoted(reference: str) -> str:
    return re.search(r'\["(\w+)"\]', reference)[1]


def _place(kind: str, body: dict[str, Any]) -> str:
    if kind == "google_project_iam_member":
        return ANYWHERE
    if kind == "google_artifact_registry_repository_iam_member":
        return IMAGES
    if kind == "google_service_account_iam_member":
        return f"ser-{_quoted(body['service_account_id'])}"
    assert kind == "google_storage_bucket_iam_member", f"{kind} is not in this table"
    folders = [re.search(r"/objects/([^\"\\]*)", part["expression"])[1] for part in body.get("condition", [])]
    return "/".join([_quoted(body["bucket"]), *folders])


def _grant(kind: str, body: dict[str, Any]) -> Grant:
    (account,) = re.findall(r"local\.(\w+)_member", body["member"])
    custom = re.search(r"google_project_iam_custom_role\.(\w+)\.id", body["role"])
    if custom:
        permissions = resources()["google_project_iam_custom_role", custom[1]]["permissions"]
    else:
        permissions = ROLES[body["role"]]
    return Grant(account, _place(kind, body), body["role"], frozenset(permissions))


def granted() -> list[Grant]:
    """Return the grants of ``iam.tf``."""
    return [_grant(kind, body) for kind, body in instances(r"google_\w+_iam_member")]


def missing(grants: Iterable[Grant]) -> list[str]:
    """Return calls whose account lacks a permission, with the permission."""
    calls = [(PIPELINE, ANYWHERE, rpc, permissions) for rpc, permissions in RPCS.items()] + CALLS
    return [
        f"{account} in {place}: {what}: {permission}"
        for account, place, what, permissions in calls
        for permission in permissions
        if not any(
            grant.account == account
            and permission in grant.permissions
            and (grant.place == ANYWHERE or place.startswith(grant.place))
            for grant in grants
        )
    ]


def _reaches(permission: str) -> bool:
    """Return whether a permission on a project gives access to buckets, secrets, accounts, builds or logs."""
    service, _, rest = permission.partition(".")
    return (
        service in ("storage", "secretmanager", "iam", "cloudbuild", "source", "cloudkms", "remotebuildexecution")
        or permission.endswith("setIamPolicy")
        or (service == "logging" and rest not in ("logEntries.create", "logEntries.route"))
        or (service == "artifactregistry")
    )


def excessive(grants: Iterable[Grant]) -> list[str]:
    """Return grants that give access to data of others, or that no call needs."""
    needless = []
    for grant in grants:
        if grant.place == ANYWHERE:
            needless += [f"{grant.role} on the project: {name}" for name in sorted(grant.permissions) if _reaches(name)]
        elif grant.account == BUILD and grant.place not in (COMPILED, SOURCE, IMAGES):
            needless.append(f"{grant.role} lets builds into {grant.place}")
    return needless


def test_the_table_has_every_method_of_the_fakes():
    services = {
        "pipeline_service": Pipelines, "schedule_service": Schedules, "job_service": CustomJobs,
        "metadata_service": Metadata, **Cloud().services(),
    }  # fmt: skip
    answered = {
        m.name for name, service in services.items() for m in methods(name).values() if hasattr(service, m.name)
    }
    assert len(answered) > 20
    assert answered == set(RPCS), "the table must name the permissions of each method, and no other methods"


def test_each_account_has_the_permissions_it_needs():
    assert missing(granted()) == []


def test_no_account_has_more_permissions():
    assert excessive(granted()) == []


def test_documented_roles_suffice_to_submit():
    """`roles/aiplatform.user` and `roles/iam.serviceAccountUser` on the account that runs act as."""
    submitting = ["create_pipeline_job", "get_pipeline_job", *(name for name in RPCS if "schedule" in name)]
    needed = {permission for name in submitting for permission in RPCS[name]}
    assert needed <= set(ROLES["roles/aiplatform.user"])
    assert "iam.serviceAccounts.actAs" in ROLES["roles/iam.serviceAccountUser"]


def test_the_custom_role_is_a_subset_of_googles_roles():
    (role,) = [body for (kind, _), body in resources().items() if kind == "google_project_iam_custom_role"]
    google = {*ROLES["roles/dataflow.developer"], *ROLES["roles/dataflow.worker"]}
    assert len(role["permissions"]) == len(set(role["permissions"]))
    assert set(role["permissions"]) <= google
    needed = {
        name for name in ROLES["roles/dataflow.worker"] if name.startswith(("autoscaling.", "compute.", "dataflow."))
    }
    assert needed <= set(role["permissions"])


def with_role(grants: list[Grant], account: str, role: str) -> list[Grant]:
    return [*grants, Grant(account, ANYWHERE, role, frozenset(ROLES[role]))]


@pytest.mark.parametrize(
    ("account", "role", "permission"),
    [
        (BUILD, "roles/cloudbuild.builds.builder", "storage.objects.get"),
        (PIPELINE, "roles/dataflow.worker", "storage.objects.get"),
        (PIPELINE, "roles/dataflow.developer", "cloudbuild.builds.create"),
    ],
)
def test_googles_broad_roles_are_found(account, role, permission):
    """Negative control: the roles that these accounts once had."""
    assert f"{role} on the project: {permission}" in excessive(with_role(granted(), account, role))


def test_a_missing_storage_permission_is_found():
    """Negative control: `objectUser` and `objectAdmin` lack ``storage.buckets.get``, which ``makedirs`` needs."""
    grants = [grant for grant in granted() if grant.role != "roles/storage.legacyBucketReader"]
    lacking = missing(grants)
    assert len(lacking) == 3
    assert any("models: the Pusher makes a folder" in line and "storage.buckets.get" in line for line in lacking)
    hidden = missing(with_role(grants, PIPELINE, "roles/dataflow.worker"))
    assert hidden == [], "which roles/dataflow.worker on the project used to hide"


def test_members_are_accounts_of_this_project():
    members = {body["member"] for (kind, _), body in resources().items() if kind.endswith("_iam_member")}
    assert members == {"${local.pipeline_member}", "${local.build_member}"}
