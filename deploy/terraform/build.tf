resource "google_cloudbuild_trigger" "main" {
  count           = var.github == null ? 0 : 1
  name            = "ser-main"
  location        = var.region
  filename        = "cloudbuild.yaml"
  service_account = google_service_account.ser["build"].id
  depends_on      = [google_project_service.apis]

  github {
    owner = var.github.owner
    name  = var.github.name
    push { branch = "^main$" }
  }

  substitutions = {
    _REGION              = var.region
    _REPOSITORY          = google_artifact_registry_repository.images.repository_id
    _PIPELINES_BUCKET    = google_storage_bucket.ser["pipelines"].name
    _DATA_BUCKET         = google_storage_bucket.ser["data"].name
    _MODELS_BUCKET       = google_storage_bucket.ser["models"].name
    _RUN_SERVICE_ACCOUNT = google_service_account.ser["pipeline"].email
  }
}
