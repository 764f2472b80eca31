locals {
  apis = [
    "aiplatform.googleapis.com",
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "containeranalysis.googleapis.com",
    "dataflow.googleapis.com",
    "iam.googleapis.com",
    "iap.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "ondemandscanning.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "storage.googleapis.com",
  ]
  labels = { system = "ser" }

  # What is deleted, by the folder in which it lies and after how many days.
  buckets = {
    data      = { versioning = true, delete_after_days = var.recording_retention_days == null ? {} : { recordings = var.recording_retention_days } }
    pipelines = { versioning = false, delete_after_days = { root = var.run_retention_days, source = 7 } }
    models    = { versioning = true, delete_after_days = {} }
  }
}

resource "google_project_service" "apis" {
  for_each           = toset(local.apis)
  service            = each.value
  disable_on_destroy = false
}

# --- Buckets. No public access, no access lists, old versions of recordings and models kept for a while.

resource "google_storage_bucket" "ser" {
  #checkov:skip=CKV_GCP_62:Usage logs are superseded by Cloud Audit Logs, which are configured for a whole project
  #checkov:skip=CKV_GCP_78:Artifacts of runs are written once and deleted after run_retention_days; data and models have versions
  for_each                    = local.buckets
  name                        = "${var.project}-ser-${each.key}"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning { enabled = each.value.versioning }

  dynamic "lifecycle_rule" {
    for_each = each.value.delete_after_days
    content {
      condition {
        age            = lifecycle_rule.value
        matches_prefix = ["${lifecycle_rule.key}/"]
      }
      action { type = "Delete" }
    }
  }

  # Of replaced and deleted objects: until then they can be restored, after that a deletion is final.
  dynamic "lifecycle_rule" {
    for_each = each.value.versioning ? [var.old_version_retention_days] : []
    content {
      condition { days_since_noncurrent_time = lifecycle_rule.value }
      action { type = "Delete" }
    }
  }
}

# --- Images

resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84:Google's keys encrypt the images; a key of one's own is a decision for the whole organisation
  repository_id = "ser"
  location      = var.region
  format        = "DOCKER"
  labels        = local.labels
  depends_on    = [google_project_service.apis]

  # Tags may move, `deployed` with each new schedule. Whatever runs names its image by digest.
  cleanup_policies {
    id     = "keep-deployed"
    action = "KEEP"
    condition {
      tag_state    = "TAGGED"
      tag_prefixes = ["deployed"]
    }
  }
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

  # A tenth of the flows is enough to see where workers connect to.
  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

resource "google_compute_firewall" "dataflow" {
  name        = "ser-dataflow"
  network     = google_compute_network.ser.name
  description = "Dataflow's workers exchange data on these ports."
  source_tags = ["dataflow"]
  target_tags = ["dataflow"]

  allow {
    protocol = "tcp"
    ports    = ["12345-12346"]
  }
}
