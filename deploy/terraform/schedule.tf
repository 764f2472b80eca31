# Vertex AI's own schedules bound the number of concurrent runs, and the Google provider has no resource for them: the
# project's own command makes this one. It needs the project's environment, which `make test` sets up, and `gcloud`.

locals {
  has_cron = var.schedule == null ? false : var.schedule.cron != null
  vertex_settings = var.schedule != null ? merge(local.request_log_settings, {
    SER__VERTEX__PROJECT              = var.project
    SER__VERTEX__REGION               = var.region
    SER__VERTEX__DATA                 = "gs://${google_storage_bucket.ser["data"].name}/recordings"
    SER__VERTEX__PIPELINE_ROOT        = "gs://${google_storage_bucket.ser["pipelines"].name}/root"
    SER__VERTEX__SERVING_DIR          = "gs://${google_storage_bucket.ser["models"].name}/ser"
    SER__VERTEX__IMAGE                = var.schedule.image
    SER__VERTEX__GPU_IMAGE            = var.schedule.gpu_image
    SER__VERTEX__DATAFLOW__IMAGE      = var.schedule.worker_image
    SER__VERTEX__ENDPOINT__IMAGE      = coalesce(var.schedule.serving_image, "null")
    SER__VERTEX__SERVICE_ACCOUNT      = google_service_account.ser["pipeline"].email
    SER__VERTEX__RUN_RETENTION_DAYS   = tostring(var.run_retention_days)
    SER__VERTEX__DATAFLOW__SUBNETWORK = "regions/${var.region}/subnetworks/${google_compute_subnetwork.ser.name}"
  }) : {}
  schedule_settings = local.has_cron ? merge(local.vertex_settings, {
    SER__VERTEX__SCHEDULE__CRON                = var.schedule.cron
    SER__VERTEX__SCHEDULE__MAX_CONCURRENT_RUNS = tostring(var.schedule.max_concurrent_runs)
  }) : {}
  # The endpoint's image is copied when a model is uploaded, so that it may be deleted.
  deployed_images = var.schedule == null ? {} : {
    image        = var.schedule.image
    gpu_image    = var.schedule.gpu_image
    worker_image = var.schedule.worker_image
  }
}

# The cleanup policies of the repository keep what has this tag.
resource "terraform_data" "deployed" {
  for_each         = local.deployed_images
  triggers_replace = each.value

  provisioner "local-exec" {
    command     = "gcloud artifacts docker tags add \"$IMAGE\" \"$${IMAGE%@*}:deployed\""
    environment = { IMAGE = each.value }
  }

  depends_on = [google_artifact_registry_repository.images]
}

resource "terraform_data" "schedule" {
  count            = local.has_cron ? 1 : 0
  triggers_replace = local.schedule_settings

  provisioner "local-exec" {
    working_dir = "${path.module}/../.."
    command     = ".venv/bin/python runner_vertex.py schedule update || .venv/bin/python runner_vertex.py schedule create"
    environment = local.schedule_settings
  }

  depends_on = [
    google_project_iam_member.dataflow,
    google_project_iam_member.pipeline,
    google_service_account_iam_member.pipeline_acts_as_itself,
    google_storage_bucket_iam_member.pipeline,
    google_storage_bucket_iam_member.pipeline_sees,
    terraform_data.deployed,
  ]
}
