# Two accounts with no more than they need: one that runs act as, one that builds.

resource "google_service_account" "pipeline" {
  account_id   = "ser-pipeline"
  display_name = "Runs of the speech-emotion pipeline"
  depends_on   = [google_project_service.apis]
}

resource "google_service_account" "build" {
  account_id   = "ser-build"
  display_name = "Builds of the speech-emotion pipeline"
  depends_on   = [google_project_service.apis]
}

locals {
  pipeline_member = "serviceAccount:${google_service_account.pipeline.email}"
  build_member    = "serviceAccount:${google_service_account.build.email}"

  pipeline_roles = [
    "roles/aiplatform.user",    # jobs, models, endpoints, metadata, experiments
    "roles/dataflow.developer", # starts Dataflow jobs
    "roles/dataflow.worker",    # is what their workers act as
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
  ]
  build_roles = [
    "roles/cloudbuild.builds.builder",
    "roles/logging.logWriter",
    "roles/ondemandscanning.admin",
  ]
}

resource "google_project_iam_member" "pipeline" {
  for_each = toset(local.pipeline_roles)
  project  = var.project
  role     = each.value
  member   = local.pipeline_member
}

resource "google_project_iam_member" "build" {
  for_each = toset(local.build_roles)
  project  = var.project
  role     = each.value
  member   = local.build_member
}

# Jobs that a run starts act as the same account, which Google wants said.
resource "google_service_account_iam_member" "pipeline_acts_as_itself" {
  service_account_id = google_service_account.pipeline.name
  role               = "roles/iam.serviceAccountUser"
  member             = local.pipeline_member
}

resource "google_storage_bucket_iam_member" "reads_recordings" {
  bucket = google_storage_bucket.data.name
  role   = "roles/storage.objectViewer"
  member = local.pipeline_member
}

resource "google_storage_bucket_iam_member" "writes_runs" {
  bucket = google_storage_bucket.pipelines.name
  role   = "roles/storage.objectAdmin"
  member = local.pipeline_member
}

# Vertex looks at the bucket itself before it starts a run.
resource "google_storage_bucket_iam_member" "sees_runs_bucket" {
  bucket = google_storage_bucket.pipelines.name
  role   = "roles/storage.legacyBucketReader"
  member = local.pipeline_member
}

resource "google_storage_bucket_iam_member" "writes_models" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectAdmin"
  member = local.pipeline_member
}

resource "google_storage_bucket_iam_member" "build_writes_compiled" {
  bucket = google_storage_bucket.pipelines.name
  role   = "roles/storage.objectUser"
  member = local.build_member

  condition {
    title      = "compiled-only"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.pipelines.name}/objects/compiled/\")"
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
