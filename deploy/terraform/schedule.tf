# Vertex AI's own schedules bound the number of concurrent runs, and the Google provider has no resource for them: the
# project's own command makes this one. It needs the project's environment, which `make test` sets up.

locals {
  vertex_settings = var.schedule == null ? {} : {
    SER__VERTEX__PROJECT                       = var.project
    SER__VERTEX__REGION                        = var.region
    SER__VERTEX__DATA                          = "gs://${google_storage_bucket.data.name}/recordings"
    SER__VERTEX__PIPELINE_ROOT                 = "gs://${google_storage_bucket.pipelines.name}/root"
    SER__VERTEX__SERVING_DIR                   = "gs://${google_storage_bucket.models.name}/ser"
    SER__VERTEX__IMAGE                         = var.schedule.image
    SER__VERTEX__GPU_IMAGE                     = var.schedule.gpu_image
    SER__VERTEX__DATAFLOW__IMAGE               = var.schedule.worker_image
    SER__VERTEX__ENDPOINT__IMAGE               = coalesce(var.schedule.serving_image, "null")
    SER__VERTEX__SERVICE_ACCOUNT               = google_service_account.pipeline.email
    SER__VERTEX__DATAFLOW__SUBNETWORK          = "regions/${var.region}/subnetworks/${google_compute_subnetwork.ser.name}"
    SER__VERTEX__SCHEDULE__CRON                = var.schedule.cron
    SER__VERTEX__SCHEDULE__MAX_CONCURRENT_RUNS = tostring(var.schedule.max_concurrent_runs)
  }
}

resource "terraform_data" "schedule" {
  count            = var.schedule == null ? 0 : 1
  triggers_replace = local.vertex_settings

  provisioner "local-exec" {
    working_dir = "${path.module}/../.."
    command     = ".venv/bin/python runner_vertex.py schedule update || .venv/bin/python runner_vertex.py schedule create"
    environment = local.vertex_settings
  }

  depends_on = [
    google_project_iam_member.pipeline,
    google_service_account_iam_member.pipeline_acts_as_itself,
    google_storage_bucket_iam_member.writes_runs,
  ]
}
