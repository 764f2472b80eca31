# Two accounts: runs act as `pipeline`, builds as `build`. No role on the project reads a bucket; access to buckets is
# granted bucket by bucket. tests/pipeline/vertex/test_permissions.py compares these grants with the calls that are made.

locals {
  accounts = {
    pipeline = "Runs of the speech-emotion pipeline"
    build    = "Builds of the speech-emotion pipeline"
  }
  pipeline_member = "serviceAccount:${google_service_account.ser["pipeline"].email}"
  build_member    = "serviceAccount:${google_service_account.ser["build"].email}"
}

resource "google_service_account" "ser" {
  for_each     = local.accounts
  account_id   = "ser-${each.key}"
  display_name = each.value
  depends_on   = [google_project_service.apis]
}

# roles/dataflow.developer can also start builds, and roles/dataflow.worker reads every bucket of the project.
resource "google_project_iam_custom_role" "dataflow" {
  role_id     = "serDataflow"
  title       = "Speech-emotion pipeline: start Dataflow jobs and work for them"
  description = "Dataflow Developer and Dataflow Worker without access to buckets and builds"
  permissions = [
    "autoscaling.sites.readRecommendations",
    "autoscaling.sites.writeMetrics",
    "autoscaling.sites.writeState",
    "compute.instanceGroupManagers.update",
    "compute.instances.delete",
    "compute.instances.setDiskAutoDelete",
    "compute.projects.get",
    "compute.regions.list",
    "compute.zones.list",
    "dataflow.jobs.cancel",
    "dataflow.jobs.create",
    "dataflow.jobs.get",
    "dataflow.jobs.list",
    "dataflow.messages.list",
    "dataflow.metrics.get",
    "dataflow.shuffle.read",
    "dataflow.shuffle.write",
    "dataflow.streamingWorkItems.ImportState",
    "dataflow.streamingWorkItems.commitWork",
    "dataflow.streamingWorkItems.getData",
    "dataflow.streamingWorkItems.getWork",
    "dataflow.streamingWorkItems.getWorkerMetadata",
    "dataflow.workItems.lease",
    "dataflow.workItems.sendMessage",
    "dataflow.workItems.update",
    "resourcemanager.projects.get",
  ]
}

resource "google_project_iam_member" "dataflow" {
  project = var.project
  role    = google_project_iam_custom_role.dataflow.id
  member  = local.pipeline_member
}

resource "google_project_iam_member" "pipeline" {
  for_each = toset([
    "roles/aiplatform.user", # jobs, models, endpoints, metadata, experiments
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
  ])
  project = var.project
  role    = each.value
  member  = local.pipeline_member
}

# Cloud Build itself needs no role of the account that a build acts as, but to write the log.
resource "google_project_iam_member" "build" {
  for_each = toset([
    "roles/logging.logWriter",
    "roles/ondemandscanning.admin",
  ])
  project = var.project
  role    = each.value
  member  = local.build_member
}

# What `gcloud artifacts sbom load` calls: it names the list of packages in the registry's metadata of an image.
resource "google_project_iam_custom_role" "sbom" {
  role_id     = "serSbom"
  title       = "Speech-emotion pipeline: attach lists of packages to images"
  description = "Notes and occurrences of Artifact Analysis, without deletion"
  permissions = [
    "containeranalysis.notes.attachOccurrence",
    "containeranalysis.notes.create",
    "containeranalysis.notes.get",
    "containeranalysis.occurrences.create",
    "containeranalysis.occurrences.list",
    "containeranalysis.occurrences.update",
  ]
}

resource "google_project_iam_member" "sbom" {
  project = var.project
  role    = google_project_iam_custom_role.sbom.id
  member  = local.build_member
}

# Jobs that a run starts act as the same account, which must be granted explicitly.
resource "google_service_account_iam_member" "pipeline_acts_as_itself" {
  service_account_id = google_service_account.ser["pipeline"].name
  role               = "roles/iam.serviceAccountUser"
  member             = local.pipeline_member
}

# Runs read recordings and write artifacts and models.
resource "google_storage_bucket_iam_member" "pipeline" {
  for_each = {
    data      = "roles/storage.objectViewer"
    pipelines = "roles/storage.objectUser"
    models    = "roles/storage.objectUser"
  }
  bucket = google_storage_bucket.ser[each.key].name
  role   = each.value
  member = local.pipeline_member
}

# Vertex AI looks up the bucket before it starts a run, TensorFlow before it makes a folder.
resource "google_storage_bucket_iam_member" "pipeline_sees" {
  for_each = toset(["data", "pipelines", "models"])
  bucket   = google_storage_bucket.ser[each.key].name
  role     = "roles/storage.legacyBucketReader"
  member   = local.pipeline_member
}

# Builds write compiled pipelines and read the source that `gcloud builds submit` uploads.
resource "google_storage_bucket_iam_member" "build" {
  for_each = {
    compiled = "roles/storage.objectUser"
    source   = "roles/storage.objectViewer"
  }
  bucket = google_storage_bucket.ser["pipelines"].name
  role   = each.value
  member = local.build_member

  condition {
    title      = "${each.key}-only"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.ser["pipelines"].name}/objects/${each.key}/\")"
  }
}

resource "google_artifact_registry_repository_iam_member" "pulls" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = local.pipeline_member
}

resource "google_artifact_registry_repository_iam_member" "pushes" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = local.build_member
}
