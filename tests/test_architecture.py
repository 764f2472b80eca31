"""Modules that must stay light to import. `[tool.importlinter]` in pyproject.toml forbids cycles and upward imports."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

IMPORT_ALL_MODULES = """
import importlib, pkgutil, modules
for module in pkgutil.walk_packages(modules.__path__, "modules."):
    importlib.import_module(module.name)
"""


def loaded_by(code: str, names: set[str]) -> set[str]:
    """Return those of the names that a new interpreter has loaded after it ran the code."""
    command = f"{code}\nimport sys\nprint(*({names!r} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(process.stdout.split())


def test_modules_load_no_orchestration_and_no_cloud():
    orchestration = {"tfx", "apache_beam", "kfp", "ml_metadata", "tensorflow_model_analysis"}
    assert loaded_by(IMPORT_ALL_MODULES, {*orchestration, "google.cloud.aiplatform", "keras"}) == {"keras"}


@pytest.mark.parametrize(
    "module", ["cli.main", "pipeline.config", "serving.client", "components.audio_example_gen.corpora"]
)
def test_interactive_modules_import_nothing_heavy(module):
    assert loaded_by(f"import {module}", {"tensorflow", "tfx", "apache_beam", "librosa", "keras"}) == set()


@pytest.mark.parametrize("runner", ["runner_local", "runner_vertex"])
def test_runners_start_without_tfx(runner):
    assert loaded_by(f"import {runner}", {"tensorflow", "tfx", "apache_beam"}) == set()
