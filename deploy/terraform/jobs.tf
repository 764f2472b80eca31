# Commands of runner_vertex.py that Cloud Scheduler starts as Cloud Run jobs, in the image of the schedule. Each has an
# account of its own.

locals {
  jobs = {
    trigger = {
      enabled     = local.new_recordings != null
      name        = "ser-new-recordings"
      does        = "start runs when recordings arrive"
      cron        = "*/10 * * * *"
      args        = ["submit", "--when-new"]
      settings    = local.trigger_settings
      permissions = ["aiplatform.pipelineJobs.create", "aiplatform.pipelineJobs.list"]
    }
    failures = {
      enabled  = var.schedule != null && var.log_failed_runs
      name     = "ser-failed-runs"
      does     = "log failed runs to Vertex AI Experiments"
      cron     = "0 * * * *"
      args     = ["log-failed"]
      settings = local.vertex_settings
      permissions = [
        "aiplatform.artifacts.get",
        "aiplatform.contexts.addContextChildren",
        "aiplatform.contexts.create",
        "aiplatform.contexts.get",
        "aiplatform.contexts.update",
        "aiplatform.executions.get",
        "aiplatform.metadataStores.create",
        "aiplatform.metadataStores.get",
        "aiplatform.pipelineJobs.get",
        "aiplatform.pipelineJobs.list",
      ]
    }
  }
  enabled_jobs = { for name, job in local.jobs : name => job if job.enabled }
}

resource "google_service_account" "job" {
  for_each     = local.enabled_jobs
  account_id   = "ser-${each.key}"
  display_name = "Speech-emotion job: ${each.value.does}"
  depends_on   = [google_project_service.apis]
}

resource "google_project_iam_custom_role" "job" {
  for_each    = local.enabled_jobs
  role_id     = "ser${title(each.key)}"
  title       = "Speech-emotion job: ${each.value.does}"
  permissions = each.value.permissions
}

resource "google_project_iam_member" "job" {
  for_each = local.enabled_jobs
  project  = var.project
  role     = google_project_iam_custom_role.job[each.key].id
  member   = "serviceAccount:${google_service_account.job[each.key].email}"
}

resource "google_cloud_run_v2_job" "job" {
  for_each            = local.enabled_jobs
  name                = each.value.name
  location            = var.region
  deletion_protection = false
  labels              = local.labels
  depends_on          = [terraform_data.deployed]

  template {
    template {
      service_account = google_service_account.job[each.key].email
      max_retries     = 0 # the next call tries again
      timeout         = "600s"

      containers {
        image   = var.schedule.image
        command = ["python", "-m", "runner_vertex"]
        args    = concat(each.value.args, ["--config", "configs/vertex.yaml"])

        dynamic "env" {
          for_each = each.value.settings
          content {
            name  = env.key
            value = env.value
          }
        }

        resources { limits = { cpu = "1", memory = "4Gi" } }
      }
    }
  }
}

resource "google_cloud_run_v2_job_iam_member" "job_is_called_by_itself" {
  for_each = local.enabled_jobs
  name     = google_cloud_run_v2_job.job[each.key].name
  location = var.region
  role     = "roles/run.invoker"
  member   = "serviceAccount:${google_service_account.job[each.key].email}"
}

resource "google_cloud_scheduler_job" "job" {
  for_each    = local.enabled_jobs
  name        = each.value.name
  description = "Speech-emotion job: ${each.value.does}"
  region      = var.region
  schedule    = each.value.cron
  depends_on  = [google_cloud_run_v2_job_iam_member.job_is_called_by_itself]

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.job[each.key].id}:run"
    oauth_token { service_account_email = google_service_account.job[each.key].email }
  }
}
