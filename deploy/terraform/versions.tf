terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
  # State belongs in a bucket of its own: terraform init -backend-config="bucket=my-terraform-state"
  backend "gcs" {
    prefix = "ser-pipeline"
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
