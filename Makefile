.DEFAULT_GOAL := help
SHELL := /bin/bash
DATA ?= demo
ROOT ?= output
JOBS ?= 2
export TF_USE_LEGACY_KERAS := 0
export SER_CORPORA ?= $(abspath $(wildcard ../shared/corpora))
export TF_CPP_MIN_LOG_LEVEL ?= 2
PYTHON_RUN := .venv/bin/python

.PHONY: help run test test-all lint docs golden lock clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/.ready ## Set up, make the demo corpus, run the whole pipeline, ask the pushed model (DATA=DIR for your recordings)
	@if [ "$(DATA)" = demo ]; then .venv/bin/ser corpus synth --out demo; fi
	@$(PYTHON_RUN) runner_local.py --data "$(DATA)" --root "$(ROOT)"
	@.venv/bin/ser predict --model-base-path "$(ROOT)/serving" "$$(find "$(DATA)" -name '*.wav' -o -name '*.flac' | sort | head -1)"

test: .venv/.ready lint docs ## Set up, lint, type-check, build the documentation, run the tests
	$(PYTHON_RUN) -m pytest -n $(JOBS) -m "not slow"

test-all: .venv/.ready lint docs ## The same, with the tests that take minutes
	$(PYTHON_RUN) -m pytest -n $(JOBS)

lint: .venv/.ready ## Lint and type-check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo
	.venv/bin/mypy
	.venv/bin/hadolint Dockerfile serving/container/Dockerfile

docs: .venv/.ready ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

golden: .venv/.ready ## Compile the Vertex pipeline that the tests compare with
	$(PYTHON_RUN) runner_vertex.py compile --config tests/golden/vertex.yaml --output tests/golden/vertex_pipeline.json

lock: .venv/.ready ## Resolve pyproject.toml into requirements.lock again
	.setup/tools/bin/uv pip compile --quiet --upgrade --extra dev --generate-hashes --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_39 --custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean: ## Remove what runs and tests leave; the environment stays
	rm -rf output demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.ready: requirements.lock environment/bootstrap.txt environment/setup.sh environment/private_glibc.sh pyproject.toml setup.py
	@environment/setup.sh
