.DEFAULT_GOAL := help
SHELL := /bin/bash
DATA ?= demo
ROOT ?= output
JOBS ?= 2
export TF_USE_LEGACY_KERAS := 0
export SER_CORPORA ?= $(abspath $(wildcard ../shared/corpora))
export TF_CPP_MIN_LOG_LEVEL ?= 2
PYTHON_RUN := .venv/bin/python

.PHONY: help run test test-all lint docs golden reference screenshots sbom audit digests airflow lock clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/.ready ## Set up, make the demo corpus, run the whole pipeline, ask the pushed model (DATA=DIR for your recordings)
	@if [ "$(DATA)" = demo ]; then .venv/bin/ser corpus synth --out demo; fi
	@$(PYTHON_RUN) runner_local.py --data "$(DATA)" --root "$(ROOT)"
	@[ ! -d "$(ROOT)/serving" ] || .venv/bin/ser predict --model-base-path "$(ROOT)/serving" "$$(find "$(DATA)" -name '*.wav' -o -name '*.flac' | sort | head -1)"

test: .venv/.ready .setup/monitoring/.ready .setup/registry/.ready .setup/checks/.ready .setup/emulators/.ready .setup/airflow/.ready lint docs ## Set up, lint, type-check, build the documentation, run the tests
	SER_NEEDS_TOOLS=1 $(PYTHON_RUN) -m pytest -n $(JOBS) -m "not slow"

test-all: .venv/.ready .setup/monitoring/.ready .setup/registry/.ready .setup/checks/.ready .setup/emulators/.ready .setup/airflow/.ready lint docs ## The same, with the tests that take minutes
	SER_NEEDS_TOOLS=1 $(PYTHON_RUN) -m pytest -n $(JOBS)

# Words that the project's style rules out (CONTRIBUTING.md).
RULED_OUT := besid[e]|who[m]|ane[w]|meanwhil[e]|deal[t]|so man[y]|men[d]|mende[d]

# Namespace, digests of images and pull policy are decided by the overlays.
UNCHECKED_KUBERNETES := CKV_K8S_14,CKV_K8S_15,CKV_K8S_21,CKV_K8S_43

lint: .venv/.ready .setup/checkov/.ready ## Lint, type-check, scan the Terraform configuration
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo
	.venv/bin/mypy
	.setup/checkov/bin/checkov --directory deploy/terraform --framework terraform --skip-download --compact --quiet
	.setup/checkov/bin/checkov --directory deploy/kubernetes --framework kubernetes --skip-download --compact --quiet \
	  --skip-check $(UNCHECKED_KUBERNETES)
	! git grep -InwiE '$(RULED_OUT)' -- . ':!*.lock' ':!LICENSE'
	.venv/bin/hadolint Dockerfile serving/container/Dockerfile

docs: .venv/.ready ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

golden: .venv/.ready ## Compile the Vertex pipeline that the tests compare with
	$(PYTHON_RUN) runner_vertex.py compile --config tests/golden/vertex.yaml --output tests/golden/vertex_pipeline.json

reference: .venv/.ready ## Write the page that describes every key of the configuration
	.venv/bin/ser config reference > docs/reference/configuration.md

screenshots: .venv/.ready ## Remake the pictures of the documentation (ROOT=output RECORDING=FILE), with Chromium
	$(PYTHON_RUN) -m tests.screenshots --root "$(ROOT)" --recording "$(RECORDING)"

sbom: .setup/checks/.ready ## Write sbom.json, the packages of the lock as CycloneDX
	.setup/checks/bin/cyclonedx-py requirements requirements.lock --output-reproducible --output-file sbom.json

audit: .setup/checks/.ready ## Look the packages of every lock up among known vulnerabilities, on pypi.org
	environment/audit.sh .setup/checks/bin/pip-audit

digests: .setup/registry/.ready ## Write the current digests of the images that builds and services start from
	PATH="$(abspath .setup/registry/bin):$$PATH" deploy/images/digests.sh

airflow: export AIRFLOW_HOME ?= $(abspath output/airflow)
airflow: export AIRFLOW__CORE__DAGS_FOLDER := $(abspath deploy/airflow/dags)
airflow: export AIRFLOW__CORE__LOAD_EXAMPLES := False
airflow: .setup/airflow/.ready ## Run Airflow with the DAG on this machine, at http://localhost:8080
	PATH="$(abspath .setup/airflow/bin):$$PATH" airflow standalone

LOCK_TOOLS = .setup/tools/bin/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 \
  --python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock"

lock: .venv/.ready ## Resolve pyproject.toml and environment/*.in into their locks again
	.setup/tools/bin/uv pip compile --quiet --upgrade --extra dev --generate-hashes --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_39 --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	$(LOCK_TOOLS) environment/checkov.in -o environment/checkov.txt
	$(LOCK_TOOLS) environment/checks.in -o environment/checks.txt
	$(LOCK_TOOLS) environment/emulators.in -o environment/emulators.txt
	$(LOCK_TOOLS) environment/airflow.in -o environment/airflow.txt

clean: ## Remove what runs and tests leave; the environment stays
	rm -rf output demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.ready: requirements.lock environment/bootstrap.txt environment/setup.sh environment/private_glibc.sh environment/apt_unpack.sh pyproject.toml setup.py
	@environment/setup.sh

.setup/checkov/.ready .setup/checks/.ready .setup/emulators/.ready .setup/airflow/.ready: .setup/%/.ready: environment/%.txt | .venv/.ready
	.setup/tools/bin/uv venv --quiet --clear --python "$$(.venv/bin/python -c 'import sys; print(sys._base_executable)')" $(@D)
	.setup/tools/bin/uv pip sync --quiet --require-hashes --python $(@D)/bin/python $<
	@touch $@

.setup/monitoring/.ready .setup/registry/.ready: .setup/%/.ready: environment/%.sh environment/apt_unpack.sh | .venv/.ready
	@environment/$*.sh
