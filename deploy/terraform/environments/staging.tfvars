# Runs with the settings of production on a copy of its recordings.
# terraform init -reconfigure -backend-config="bucket=my-terraform-state" -backend-config="prefix=ser-pipeline/staging"
# terraform apply -var-file=environments/staging.tfvars

project     = "my-project-staging"
region      = "europe-west4"
alert_email = "me@example.com"

run_retention_days         = 31
old_version_retention_days = 30

budget = {
  billing_account = "000000-000000-000000"
  monthly_amount  = 300
  currency        = "EUR"
}

# With images in `schedule`: a run half an hour after the last new recording, or half a day after the first.
new_recordings  = { quiet_min = 30, max_wait_min = 720 }
log_failed_runs = true
