variable "project" {
  description = "Id of an existing Google Cloud project with billing."
  type        = string
}

variable "region" {
  description = "Where machines, buckets and images are, such as europe-west4."
  type        = string
  default     = "europe-west4"
}

variable "alert_email" {
  description = "Recipient of alerts about failed runs and the endpoint."
  type        = string
}

variable "github" {
  description = "Owner and name of the repository that Cloud Build is connected to; null makes no trigger."
  type        = object({ owner = string, name = string })
  default     = null
}

variable "run_retention_days" {
  description = "Age at which artifacts of runs are deleted. Blessed models are kept for ever."
  type        = number
  default     = 90

  validation {
    condition     = var.run_retention_days > 30
    error_message = "run_retention_days must be above 30, the default of vertex.cache_max_age_days: until then runs use artifacts from the cache."
  }
}

variable "recording_retention_days" {
  description = "Age at which recordings below recordings/ in the bucket of data are deleted; null keeps them."
  type        = number
  default     = null
}

variable "old_version_retention_days" {
  description = "Days for which replaced and deleted recordings and models can be restored; then they are deleted."
  type        = number
  default     = 90

  validation {
    condition     = var.old_version_retention_days >= 1
    error_message = "old_version_retention_days must be 1 or more."
  }
}

variable "budget" {
  description = "Monthly amount, in whole units of the currency of the billing account, of which 50, 90 and 100 % send an e-mail to alert_email; null sends none. Needs the role billing.costsManager on the billing account."
  type = object({
    billing_account = string
    monthly_amount  = number
    currency        = string
  })
  default = null

  validation {
    condition     = var.budget == null ? true : can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account)) && var.budget.monthly_amount >= 1
    error_message = "budget.billing_account must be an id such as 0123AB-4567CD-89EF01, and budget.monthly_amount 1 or more."
  }
}

variable "schedule" {
  description = "Images, cron times of the pipeline and how many runs at once; null: nothing runs by itself. Needs images that cloudbuild.yaml pushed; without serving_image blessed models are not deployed, and without cron there are no fixed times, for new_recordings alone."
  type = object({
    cron                = optional(string)
    max_concurrent_runs = optional(number, 1)
    image               = string
    gpu_image           = string
    worker_image        = string
    serving_image       = optional(string)
  })
  default = null

  validation {
    condition     = var.schedule == null ? true : alltrue([for image in [var.schedule.image, var.schedule.gpu_image, var.schedule.worker_image] : can(regex("@sha256:[0-9a-f]{64}$", image))])
    error_message = "schedule.image, schedule.gpu_image and schedule.worker_image must end in @sha256: and the digest that cloudbuild.yaml printed."
  }
}

variable "new_recordings" {
  description = "New recordings start a run when no other arrived for quiet_min minutes, or max_wait_min after the first one, and no run is in progress; {} for the defaults, null for no such runs. Takes effect where schedule names the images."
  type = object({
    quiet_min    = optional(number, 30)
    max_wait_min = optional(number, 720)
  })
  default = null

  validation {
    condition     = var.new_recordings == null ? true : 0 <= var.new_recordings.quiet_min && var.new_recordings.quiet_min <= var.new_recordings.max_wait_min && var.new_recordings.max_wait_min <= 8640
    error_message = "new_recordings.quiet_min must be 0 to max_wait_min, and max_wait_min at most 8640 (6 days): notifications are kept for 7."
  }
}

variable "log_failed_runs" {
  description = "Log failed and cancelled runs to Vertex AI Experiments, every hour. Takes effect where schedule names the images."
  type        = bool
  default     = false
}

variable "request_log" {
  description = "Log of a sample of the endpoint's requests in BigQuery, with the sound of callers: the share of requests, and the days after which they are deleted; {} for the defaults, null for no log. Takes effect with the next push."
  type = object({
    sampling_rate  = optional(number, 0.1)
    retention_days = optional(number, 30)
  })
  default = null

  validation {
    condition     = var.request_log == null ? true : 0 < var.request_log.sampling_rate && var.request_log.sampling_rate <= 1 && var.request_log.retention_days >= 1
    error_message = "request_log.sampling_rate must be above 0 and at most 1, and request_log.retention_days 1 or more."
  }
}

variable "error_rate_threshold" {
  description = "Share of failed predictions that raises an alert."
  type        = number
  default     = 0.02
}

variable "latency_threshold_ms" {
  description = "95th percentile of the prediction latency that raises an alert."
  type        = number
  default     = 500
}

variable "schedule_silence_days" {
  description = "Days without a run that raise an alert, where schedule has cron times."
  type        = number
  default     = 2
}

variable "model_age_days" {
  description = "Days without a pushed model that raise an alert, where there is a schedule."
  type        = number
  default     = 30
}

variable "page" {
  description = "Web page on Cloud Run: image, address of the model such as vertex://PROJECT/REGION/ENDPOINT, and who may use it, such as group:team@example.com; null makes no page."
  type = object({
    image   = string
    address = string
    users   = list(string)
  })
  default = null

  validation {
    condition     = var.page == null ? true : can(regex("@sha256:[0-9a-f]{64}$", var.page.image)) && alltrue([for user in var.page.users : !contains(["allUsers", "allAuthenticatedUsers"], user)])
    error_message = "page.image must end in @sha256: and the digest that cloudbuild.yaml printed; page.users must not be everybody."
  }
}
