locals {
  apis = [
    "aiplatform.googleapis.com",
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "compute.googleapis.com",
    "dataflow.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "ondemandscanning.googleapis.com",
    "storage.googleapis.com",
  ]
  labels = { system = "ser" }
}

resource "google_project_service" "apis" {
  for_each           = toset(local.apis)
  service            = each.value
  disable_on_destroy = false
}

# --- Buckets. Nobody from outside, no access lists, old versions of models kept.

resource "google_storage_bucket" "data" {
  name                        = "${var.project}-ser-data"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning { enabled = true }
}

resource "google_storage_bucket" "pipelines" {
  name                        = "${var.project}-ser-pipelines"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  lifecycle_rule {
    condition {
      age            = var.run_retention_days
      matches_prefix = ["root/"]
    }
    action { type = "Delete" }
  }
}

resource "google_storage_bucket" "models" {
  name                        = "${var.project}-ser-models"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning { enabled = true }
}

# --- Images

resource "google_artifact_registry_repository" "images" {
  repository_id = "ser"
  location      = var.region
  format        = "DOCKER"
  labels        = local.labels
  depends_on    = [google_project_service.apis]

  docker_config { immutable_tags = true }

  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions { keep_count = 10 }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition { older_than = "7776000s" }
  }
}

# --- Network of the Dataflow workers, which have no public addresses.

resource "google_compute_network" "ser" {
  name                    = "ser"
  auto_create_subnetworks = false
  depends_on              = [google_project_service.apis]
}

resource "google_compute_subnetwork" "ser" {
  name                     = "ser"
  network                  = google_compute_network.ser.id
  region                   = var.region
  ip_cidr_range            = "10.10.0.0/20"
  private_ip_google_access = true
}

resource "google_compute_firewall" "dataflow" {
  name        = "ser-dataflow"
  network     = google_compute_network.ser.name
  description = "Dataflow's workers shuffle among themselves."
  source_tags = ["dataflow"]
  target_tags = ["dataflow"]

  allow {
    protocol = "tcp"
    ports    = ["12345-12346"]
  }
}
