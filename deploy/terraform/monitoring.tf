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

# What the RunReport writes into its log at the end of a run: components/run_report/executor.py.
locals {
  run_outcomes = {
    rejected = {
      words  = "verdict=rejected"
      title  = "a model was rejected"
      action = "The gate rejected the model of a run; the version before stays in use. report.html of the run has the checks."
    }
    drift = {
      words  = "drift=yes"
      title  = "drift"
      action = "The data of a run drifted from those of the blessed baseline. report.html of the run has the comparisons."
    }
  }
}

resource "google_monitoring_alert_policy" "run_outcome" {
  for_each              = local.run_outcomes
  display_name          = "Speech-emotion pipeline: ${each.value.title}"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]
  user_labels           = local.labels

  conditions {
    display_name = each.value.title
    condition_matched_log {
      filter = "\"ser-run-outcome\" AND \"${each.value.words}\""
    }
  }

  alert_strategy {
    notification_rate_limit { period = "3600s" }
  }

  documentation {
    content   = each.value.action
    mime_type = "text/markdown"
  }
}

resource "google_logging_metric" "pushed" {
  name        = "ser_pushed"
  description = "Runs that pushed a model"
  filter      = "\"ser-run-outcome\" AND \"pushed=yes\""
  depends_on  = [google_project_service.apis]

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
}

# In PromQL, whose conditions may look back further than a day. `validate = false`: Cloud Monitoring would refuse a
# metric that has no value yet.
locals {
  promql_alerts = {
    queue = {
      title    = "all replicas are busy"
      expr     = "avg(aiplatform_googleapis_com:prediction_online_cpu_utilization{monitored_resource=\"aiplatform.googleapis.com/Endpoint\"}) > 0.9"
      duration = "600s"
      validate = true
      action   = "Requests wait in the queue before they run. Raise vertex.endpoint.max_replicas."
    }
    no_model = {
      title    = "no replica of the endpoint is ready"
      expr     = "sum(aiplatform_googleapis_com:prediction_online_replicas{monitored_resource=\"aiplatform.googleapis.com/Endpoint\"}) < 1 or absent_over_time(aiplatform_googleapis_com:prediction_online_replicas[30m])"
      duration = "300s"
      validate = true
      action   = "`ser rollout status` shows what is deployed; deploy the version before with `ser rollout rollback`."
    }
    schedule_stopped = {
      title    = "no run was under way for ${var.schedule_silence_days} days"
      expr     = "absent_over_time(aiplatform_googleapis_com:executing_vertexai_pipeline_jobs[${var.schedule_silence_days}d]) or sum(max_over_time(aiplatform_googleapis_com:executing_vertexai_pipeline_jobs[${var.schedule_silence_days}d])) < 1"
      duration = "0s"
      validate = true
      action   = "`python runner_vertex.py schedule list` shows whether the schedule is active."
    }
    trigger_stopped = {
      title    = "new recordings start no runs"
      expr     = "absent_over_time(run_googleapis_com:job_completed_execution_count{job_name=\"ser-new-recordings\", result=\"succeeded\"}[2h]) or sum(increase(run_googleapis_com:job_completed_execution_count{job_name=\"ser-new-recordings\", result=\"succeeded\"}[2h])) < 1"
      duration = "0s"
      validate = false
      action   = "No execution of the Cloud Run job ser-new-recordings succeeded for two hours: read its log, and look whether the Cloud Scheduler job is paused. Notifications are kept for 7 days."
    }
    old_model = {
      title    = "no model was pushed for ${var.model_age_days} days"
      expr     = "absent_over_time(logging_googleapis_com:user_ser_pushed[${var.model_age_days}d]) or sum(increase(logging_googleapis_com:user_ser_pushed[${var.model_age_days}d])) < 1"
      duration = "0s"
      validate = false
      action   = "Look for rejected models and for a schedule that stopped."
    }
  }
  # Without `schedule` nothing runs by itself, and without a serving image nothing is deployed.
  promql_conditions = {
    schedule_stopped = local.has_cron
    trigger_stopped  = local.new_recordings != null
    old_model        = var.schedule != null
  }
  active_promql_alerts = {
    for name, alert in local.promql_alerts : name => alert
    if lookup(local.promql_conditions, name, var.schedule == null ? false : var.schedule.serving_image != null)
  }
}

resource "google_monitoring_alert_policy" "promql" {
  for_each              = local.active_promql_alerts
  display_name          = "Speech-emotion: ${each.value.title}"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]
  user_labels           = local.labels
  depends_on            = [google_logging_metric.pushed]

  conditions {
    display_name = each.value.title
    condition_prometheus_query_language {
      query                     = each.value.expr
      duration                  = each.value.duration
      evaluation_interval       = "300s"
      disable_metric_validation = !each.value.validate
    }
  }

  documentation {
    content   = each.value.action
    mime_type = "text/markdown"
  }
}

locals {
  dashboard_charts = {
    "Predictions per second"        = "sum(rate(aiplatform_googleapis_com:prediction_online_prediction_count[5m]))"
    "Share of failed predictions"   = "sum(rate(aiplatform_googleapis_com:prediction_online_error_count[5m])) / sum(rate(aiplatform_googleapis_com:prediction_online_prediction_count[5m]))"
    "Latency, 95th percentile (ms)" = "histogram_quantile(0.95, sum by (le) (rate(aiplatform_googleapis_com:prediction_online_prediction_latencies_bucket[5m])))"
    "Replicas"                      = "sum(aiplatform_googleapis_com:prediction_online_replicas)"
    "CPU"                           = "avg(aiplatform_googleapis_com:prediction_online_cpu_utilization)"
    "Runs under way"                = "sum(aiplatform_googleapis_com:executing_vertexai_pipeline_jobs)"
    "Pushed models per day"         = "sum(increase(logging_googleapis_com:user_ser_pushed[1d]))"
  }
}

resource "google_monitoring_dashboard" "ser" {
  depends_on = [google_project_service.apis]
  dashboard_json = jsonencode({
    displayName = "Speech emotion: serving and runs"
    gridLayout = {
      columns = 2
      widgets = [for title, query in local.dashboard_charts : {
        title   = title
        xyChart = { dataSets = [{ plotType = "LINE", timeSeriesQuery = { prometheusQuery = query } }] }
      }]
    }
  })
}
