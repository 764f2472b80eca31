"""The roles that ``iam.tf`` grants have the permissions of every call, and no others.

Calls of runs to buckets are those that the fake of Cloud Storage records: ``test_vertex_execution.py``.
"""

from collections.abc import Iterable

import pytest

from tests.fakes.vertex import methods
from tests.fakes.vertex_endpoints import Cloud
from tests.fakes.vertex_metadata import Metadata
from tests.fakes.vertex_runs import CustomJobs, Pipelines, Schedules
from tests.pipeline.vertex.grants import (
    ANYWHERE,
    BUILD,
    IMAGES,
    PIPELINE,
    REQUESTS,
    ROLES,
    Call,
    Grant,
    granted,
    missing,
)
from tests.pipeline.vertex.terraform_files import local_values, resources

COMPILED, SOURCE, ACCOUNT = "pipelines/compiled/", "pipelines/source/", "ser-pipeline"

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
    "list_pipeline_jobs": ["aiplatform.pipelineJobs.list"],
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

# Everything else that an account does, except the calls of runs to buckets.
CALLS: list[Call] = [
    *((PIPELINE, ANYWHERE, rpc, permissions) for rpc, permissions in RPCS.items()),
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
    (PIPELINE, ANYWHERE, "the DriftMonitor queries BigQuery", ["bigquery.jobs.create"]),
    (PIPELINE, REQUESTS, "the query reads the log of requests", ["bigquery.tables.get", "bigquery.tables.getData"]),
    (PIPELINE, ACCOUNT, "jobs that a run starts act as the same account", ["iam.serviceAccounts.actAs"]),
    (PIPELINE, IMAGES, "images are pulled", ["artifactregistry.repositories.downloadArtifacts"]),
    (BUILD, ANYWHERE, "the build logs", ["logging.logEntries.create"]),
    (BUILD, ANYWHERE, "images are scanned",
     ["ondemandscanning.scans.analyzePackages", "ondemandscanning.scans.listVulnerabilities",
      "ondemandscanning.operations.get"]),
    (BUILD, ANYWHERE, "lists of packages are attached (WriteReferenceOccurrence of gcloud's sbom_util.py)",
     ["containeranalysis.notes.get", "containeranalysis.notes.create", "containeranalysis.notes.attachOccurrence",
      "containeranalysis.occurrences.list", "containeranalysis.occurrences.create",
      "containeranalysis.occurrences.update"]),
    (BUILD, IMAGES, "images are pushed, and pulled by later steps",
     ["artifactregistry.repositories.uploadArtifacts", "artifactregistry.repositories.downloadArtifacts",
      "artifactregistry.tags.create", "artifactregistry.tags.update"]),
    (BUILD, SOURCE, "the source is downloaded", ["storage.objects.get"]),
    (BUILD, COMPILED, "compiled pipelines are written and replaced",
     ["storage.objects.create", "storage.objects.delete"]),
]  # fmt: skip


def _reaches(permission: str) -> bool:
    """Return whether a permission on a project gives access to buckets, secrets, accounts, builds or logs."""
    service, _, rest = permission.partition(".")
    return (
        service in ("storage", "secretmanager", "iam", "cloudbuild", "source", "cloudkms", "remotebuildexecution")
        or permission.endswith("setIamPolicy")
        or (service == "logging" and rest not in ("logEntries.create", "logEntries.route"))
        or (service == "artifactregistry")
        or (service == "bigquery" and rest != "jobs.create")
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
    assert missing(granted(), CALLS) == []


def test_no_account_has_more_permissions():
    assert excessive(granted()) == []


def test_documented_roles_suffice_to_submit():
    """`roles/aiplatform.user` and `roles/iam.serviceAccountUser` on the account that runs act as."""
    submitting = ["create_pipeline_job", "get_pipeline_job", *(name for name in RPCS if "schedule" in name)]
    needed = {permission for name in submitting for permission in RPCS[name]}
    assert needed <= set(ROLES["roles/aiplatform.user"])
    assert "iam.serviceAccounts.actAs" in ROLES["roles/iam.serviceAccountUser"]


def test_the_custom_role_is_a_subset_of_googles_roles():
    role = resources()["google_project_iam_custom_role", "dataflow"]
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


def test_a_missing_role_is_found():
    """Negative control."""
    grants = [grant for grant in granted() if grant.role != "roles/aiplatform.user"]
    lacking = missing(grants, CALLS)
    assert "pipeline in project: create_pipeline_job: aiplatform.pipelineJobs.create" in lacking
    assert "pipeline in project: the smoke test sends requests (rawPredict): aiplatform.endpoints.predict" in lacking


def test_members_are_accounts_of_this_project():
    members = {body["member"] for (kind, _), body in resources().items() if kind.endswith("_iam_member")}
    assert members == {
        "${local.pipeline_member}",
        "${local.build_member}",
        "serviceAccount:${google_service_account.page[0].email}",
        "serviceAccount:${google_service_account.job[each.key].email}",
        'serviceAccount:${google_service_account.job["trigger"].email}',
        "serviceAccount:${data.google_storage_project_service_account.this.email_address}",  # publishes notifications
        "serviceAccount:service-${data.google_project.this.number}@gcp-sa-iap.iam.gserviceaccount.com",
        "${each.value}",  # var.page.users, who may use the page
    }


def test_the_page_can_predict_and_nothing_else():
    role = resources()["google_project_iam_custom_role", "page"]
    assert set(role["permissions"]) == {"aiplatform.endpoints.get", "aiplatform.endpoints.predict"}
    assert set(role["permissions"]) <= set(ROLES["roles/aiplatform.user"])


def grants_of_a_job(key: str) -> set[tuple[str, str]]:
    """Return kind and role of each grant to the account of a job of ``jobs.tf``."""
    members = [f"serviceAccount:${{google_service_account.job[{name}].email}}" for name in ("each.key", f'"{key}"')]
    return {(kind, body["role"]) for (kind, _), body in resources().items() if body.get("member") in members}


EVERY_JOB = {
    ("google_project_iam_member", "${google_project_iam_custom_role.job[each.key].id}"),
    ("google_cloud_run_v2_job_iam_member", "roles/run.invoker"),
}


def test_the_trigger_can_start_runs_read_its_subscription_and_call_its_job_and_nothing_else():
    assert grants_of_a_job("trigger") == EVERY_JOB | {
        ("google_service_account_iam_member", "roles/iam.serviceAccountUser"),
        ("google_pubsub_subscription_iam_member", "roles/pubsub.subscriber"),
    }
    needed = {permission for name in ("create_pipeline_job", "list_pipeline_jobs") for permission in RPCS[name]}
    assert set(local_values()["jobs"]["trigger"]["permissions"]) == needed


def test_the_account_that_logs_failed_runs_can_call_its_job_and_what_its_role_has():
    """``test_vertex_jobs.py`` compares the role with the calls that are made."""
    assert grants_of_a_job("failures") == EVERY_JOB
    assert set(local_values()["jobs"]["failures"]["permissions"]) <= set(ROLES["roles/aiplatform.user"])
    role = resources()["google_project_iam_custom_role", "job"]
    assert (role["for_each"], role["permissions"]) == ("${local.enabled_jobs}", "${each.value.permissions}")
