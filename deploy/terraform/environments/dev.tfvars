# Trial runs: everything is deleted soon, no schedule, a small budget.
# terraform init -reconfigure -backend-config="bucket=my-terraform-state" -backend-config="prefix=ser-pipeline/dev"
# terraform apply -var-file=environments/dev.tfvars

project     = "my-project-dev"
region      = "europe-west4"
alert_email = "me@example.com"

run_retention_days         = 31
old_version_retention_days = 7

budget = {
  billing_account = "000000-000000-000000"
  monthly_amount  = 100
  currency        = "EUR"
}

# Runs are started by hand.
new_recordings = null
