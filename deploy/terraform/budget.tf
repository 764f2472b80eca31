# An alert by e-mail, not a limit: Google stops nothing. Costs are reported with a delay of hours.

# The API of budgets counts requests against a project, which credentials of a user do not name.
provider "google" {
  alias                 = "budget"
  project               = var.project
  billing_project       = var.project
  user_project_override = true
}

resource "google_billing_budget" "ser" {
  provider        = google.budget
  count           = var.budget == null ? 0 : 1
  billing_account = var.budget.billing_account
  display_name    = "Speech-emotion pipeline: ${var.project}"

  budget_filter {
    projects        = ["projects/${data.google_project.this.number}"]
    calendar_period = "MONTH"
  }

  amount {
    specified_amount {
      currency_code = var.budget.currency
      units         = tostring(var.budget.monthly_amount)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content { threshold_percent = threshold_rules.value }
  }
  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.email.id]
  }

  depends_on = [google_project_service.apis]
}
