resource "google_monitoring_notification_channel" "email" {
  display_name = "Speech-emotion pipeline"
  type         = "email"
  labels       = { email_address = var.alert_email }
  depends_on   = [google_project_service.apis]
}

# On the log itself, not on a metric made from it: a policy that names a metric made seconds before is refused.
resource "google_monitoring_alert_policy" "failed_run" {
  display_name          = "Speech-emotion pipeline: a run failed"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]
  user_labels           = local.labels

  conditions {
    display_name = "A run failed"
    condition_matched_log {
      filter = <<-EOT
        resource.type="aiplatform.googleapis.com/PipelineJob"
        jsonPayload.state="PIPELINE_STATE_FAILED"
      EOT
    }
  }

  # Required for conditions on logs.
  alert_strategy {
    notification_rate_limit { period = "300s" }
  }

  documentation {
    content   = "A run of the speech-emotion pipeline failed. docs/guides/production/operate.md lists failures and what to do."
    mime_type = "text/markdown"
  }
}

resource "google_monitoring_alert_policy" "endpoint" {
  display_name          = "Speech-emotion endpoint: errors or latency"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]
  user_labels           = local.labels

  conditions {
    display_name = "Share of failed predictions"
    condition_threshold {
      filter             = "resource.type = \"aiplatform.googleapis.com/Endpoint\" AND metric.type = \"aiplatform.googleapis.com/prediction/online/error_count\""
      denominator_filter = "resource.type = \"aiplatform.googleapis.com/Endpoint\" AND metric.type = \"aiplatform.googleapis.com/prediction/online/prediction_count\""
      comparison         = "COMPARISON_GT"
      threshold_value    = var.error_rate_threshold
      duration           = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
      denominator_aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  conditions {
    display_name = "Latency, 95th percentile"
    condition_threshold {
      filter          = "resource.type = \"aiplatform.googleapis.com/Endpoint\" AND metric.type = \"aiplatform.googleapis.com/prediction/online/prediction_latencies\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.latency_threshold_ms
      duration        = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_PERCENTILE_95"
        cross_series_reducer = "REDUCE_MAX"
      }
    }
  }

  documentation {
    content   = "`ser rollout status` shows the versions and their shares, `ser rollout rollback` returns all requests to the version before. docs/guides/production/operate.md has the rest."
    mime_type = "text/markdown"
  }
}
