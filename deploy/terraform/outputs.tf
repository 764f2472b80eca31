output "vertex_settings" {
  description = "For configs/vertex.yaml, or as --set."
  value = {
    "vertex.project"              = var.project
    "vertex.region"               = var.region
    "vertex.data"                 = "gs://${google_storage_bucket.ser["data"].name}/recordings"
    "vertex.pipeline_root"        = "gs://${google_storage_bucket.ser["pipelines"].name}/root"
    "vertex.serving_dir"          = "gs://${google_storage_bucket.ser["models"].name}/ser"
    "vertex.service_account"      = google_service_account.ser["pipeline"].email
    "vertex.run_retention_days"   = var.run_retention_days
    "vertex.endpoint.request_log" = local.request_log_address
    "vertex.dataflow.subnetwork"  = "regions/${var.region}/subnetworks/${google_compute_subnetwork.ser.name}"
  }
}

output "registry" {
  description = "Where cloudbuild.yaml pushes images."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}
