# Log of a sample of the endpoint's requests, with the sound of callers: a table whose days are deleted after
# retention_days. Vertex AI's own service agent may write tables of its project, by roles/aiplatform.serviceAgent.

locals {
  request_log_count   = var.request_log == null ? 0 : 1
  request_log_address = var.request_log == null ? null : "bq://${var.project}.${google_bigquery_table.requests[0].dataset_id}.${google_bigquery_table.requests[0].table_id}"
  request_log_settings = var.request_log != null ? {
    SER__VERTEX__ENDPOINT__REQUEST_LOG      = local.request_log_address
    SER__VERTEX__ENDPOINT__REQUEST_LOG_RATE = tostring(var.request_log.sampling_rate)
    SER__DRIFT__REQUEST_LOG                 = local.request_log_address
  } : {}
}

resource "google_bigquery_dataset" "requests" {
  #checkov:skip=CKV_GCP_81:Google's keys encrypt the log; a key of one's own is a decision for the whole organisation
  count                      = local.request_log_count
  dataset_id                 = "ser"
  location                   = var.region
  description                = "Sample of the requests to the speech-emotion endpoint."
  labels                     = local.labels
  delete_contents_on_destroy = true # no request is kept when the log is switched off
  depends_on                 = [google_project_service.apis]
}

resource "google_bigquery_table" "requests" {
  #checkov:skip=CKV_GCP_80:Google's keys encrypt the log; a key of one's own is a decision for the whole organisation
  #checkov:skip=CKV_GCP_121:Requests are deleted after retention_days anyway, and all at once when the log is switched off
  count                    = local.request_log_count
  dataset_id               = google_bigquery_dataset.requests[0].dataset_id
  table_id                 = "requests"
  labels                   = local.labels
  deletion_protection      = false
  require_partition_filter = true # a query without a period would be billed for the whole table

  time_partitioning {
    type          = "DAY"
    field         = "logging_time"
    expiration_ms = var.request_log.retention_days * 86400000
  }

  # The columns that Vertex AI writes.
  schema = jsonencode([
    { name = "endpoint", type = "STRING" },
    { name = "deployed_model_id", type = "STRING" },
    { name = "logging_time", type = "TIMESTAMP" },
    { name = "request_id", type = "NUMERIC" },
    { name = "request_payload", type = "STRING", mode = "REPEATED" },
    { name = "response_payload", type = "STRING", mode = "REPEATED" },
  ])
}

# Runs compare requests with the training data.
resource "google_bigquery_dataset_iam_member" "pipeline_reads_requests" {
  count      = local.request_log_count
  dataset_id = google_bigquery_dataset.requests[0].dataset_id
  role       = "roles/bigquery.dataViewer"
  member     = local.pipeline_member
}

resource "google_project_iam_member" "pipeline_queries" {
  count   = local.request_log_count
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = local.pipeline_member
}
