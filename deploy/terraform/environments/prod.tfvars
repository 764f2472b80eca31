# Production: artifacts and old versions can be restored for three months.
# terraform init -reconfigure -backend-config="bucket=my-terraform-state" -backend-config="prefix=ser-pipeline/prod"
# terraform apply -var-file=environments/prod.tfvars

project     = "my-project-prod"
region      = "europe-west4"
alert_email = "me@example.com"

run_retention_days         = 90
old_version_retention_days = 90

budget = {
  billing_account = "000000-000000-000000"
  monthly_amount  = 1000
  currency        = "EUR"
}

# With images in `schedule`: a run half an hour after the last new recording, or half a day after the first.
new_recordings  = { quiet_min = 30, max_wait_min = 720 }
log_failed_runs = true
