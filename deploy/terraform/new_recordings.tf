# New recordings start a run: the bucket notifies a topic, and every ten minutes a job (jobs.tf) reads the notifications
# that its subscription keeps. It starts a run when no more recordings arrive: `runner_vertex.py submit --when-new`.

locals {
  # The images are those of the schedule.
  new_recordings = var.schedule == null ? null : var.new_recordings
  trigger_count  = local.new_recordings == null ? 0 : 1
  trigger_settings = local.new_recordings != null ? merge(local.vertex_settings, {
    SER__VERTEX__NEW_RECORDINGS__SUBSCRIPTION = google_pubsub_subscription.recordings[0].name
    SER__VERTEX__NEW_RECORDINGS__QUIET_MIN    = tostring(local.new_recordings.quiet_min)
    SER__VERTEX__NEW_RECORDINGS__MAX_WAIT_MIN = tostring(local.new_recordings.max_wait_min)
  }) : {}
}

check "new_recordings_have_images" {
  assert {
    condition     = var.new_recordings == null || var.schedule != null
    error_message = "new_recordings starts no runs yet: set schedule, which names the images, with cron = null for no fixed times."
  }
}

# --- Notifications

resource "google_pubsub_topic" "recordings" {
  #checkov:skip=CKV_GCP_83:Messages hold names of recordings, and no sound; a key of one's own is a decision for the whole organisation
  count      = local.trigger_count
  name       = "ser-recordings"
  labels     = local.labels
  depends_on = [google_project_service.apis]

  message_storage_policy { allowed_persistence_regions = [var.region] }
}

data "google_storage_project_service_account" "this" {}

resource "google_pubsub_topic_iam_member" "storage_publishes" {
  count  = local.trigger_count
  topic  = google_pubsub_topic.recordings[0].name
  role   = "roles/pubsub.publisher"
  member = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

resource "google_storage_notification" "recordings" {
  count              = local.trigger_count
  bucket             = google_storage_bucket.ser["data"].name
  topic              = google_pubsub_topic.recordings[0].id
  payload_format     = "NONE"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = "recordings/"
  depends_on         = [google_pubsub_topic_iam_member.storage_publishes]
}

resource "google_pubsub_subscription" "recordings" {
  count                      = local.trigger_count
  name                       = "ser-recordings"
  topic                      = google_pubsub_topic.recordings[0].id
  labels                     = local.labels
  ack_deadline_seconds       = 600 # what a job that was killed held comes again after that
  message_retention_duration = "604800s"

  expiration_policy { ttl = "" } # never
}

# --- What the job may do, in addition to jobs.tf

resource "google_service_account_iam_member" "trigger_acts_as_pipeline" {
  count              = local.trigger_count
  service_account_id = google_service_account.ser["pipeline"].name
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${google_service_account.job["trigger"].email}"
}

resource "google_pubsub_subscription_iam_member" "trigger_reads" {
  count        = local.trigger_count
  subscription = google_pubsub_subscription.recordings[0].name
  role         = "roles/pubsub.subscriber"
  member       = "serviceAccount:${google_service_account.job["trigger"].email}"
}
