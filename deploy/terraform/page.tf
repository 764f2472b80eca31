# The web page on Cloud Run. It has no log-in of its own: Identity-Aware Proxy lets page.users through, and nobody else.

resource "google_service_account" "page" {
  count        = var.page == null ? 0 : 1
  account_id   = "ser-page"
  display_name = "Web page of the speech-emotion model"
  depends_on   = [google_project_service.apis]
}

# Predictions by the endpoint; the role has nothing that changes one.
resource "google_project_iam_custom_role" "page" {
  count       = var.page == null ? 0 : 1
  role_id     = "serPage"
  title       = "Speech-emotion page: predict"
  permissions = ["aiplatform.endpoints.get", "aiplatform.endpoints.predict"]
}

resource "google_project_iam_member" "page" {
  count   = var.page == null ? 0 : 1
  project = var.project
  role    = google_project_iam_custom_role.page[0].id
  member  = "serviceAccount:${google_service_account.page[0].email}"
}

resource "google_cloud_run_v2_service" "page" {
  count               = var.page == null ? 0 : 1
  name                = "ser-page"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  iap_enabled         = true
  deletion_protection = false
  labels              = local.labels
  depends_on          = [google_project_service.apis]

  template {
    service_account                  = google_service_account.page[0].email
    session_affinity                 = true # upload and session of a visitor must reach the same instance
    max_instance_request_concurrency = 40   # a session of 20 holds one connection; uploads need others
    timeout                          = "3600s"

    scaling {
      min_instance_count = 0
      max_instance_count = 4
    }

    containers {
      image = var.page.image
      args  = ["--host", "0.0.0.0", "--port", "8510", "--max-upload-mb", "25", "--address", var.page.address]

      ports { container_port = 8510 }

      resources {
        limits            = { cpu = "1", memory = "2Gi" }
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 5
        failure_threshold = 24
        http_get { path = "/_stcore/health" }
      }

      liveness_probe {
        period_seconds = 30
        http_get { path = "/_stcore/health" }
      }
    }
  }
}

data "google_project" "this" {}

# Proxy to service: the proxy's own account is the only caller.
resource "google_cloud_run_v2_service_iam_member" "proxy_calls_page" {
  count    = var.page == null ? 0 : 1
  name     = google_cloud_run_v2_service.page[0].name
  location = var.region
  role     = "roles/run.invoker"
  member   = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-iap.iam.gserviceaccount.com"
}

resource "google_iap_web_cloud_run_service_iam_member" "users" {
  for_each               = var.page == null ? toset([]) : toset(var.page.users)
  cloud_run_service_name = google_cloud_run_v2_service.page[0].name
  location               = var.region
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.value
}
