import shutil
from pathlib import Path

import pytest

from modules.common import code_fingerprint
from pipeline.caching import mark_code
from pipeline.config import load_config
from pipeline.create import RunnerSettings, create_pipeline

ROOT = Path(__file__).parents[2]
PACKAGES = ("cli", "components", "modules", "pipeline", "schema", "serving")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_fingerprint, "_ROOT", tmp_path)
    return tmp_path


def keys() -> dict[str, str]:
    """Return the part of TFX's cache key that is neither inputs nor settings, by component."""
    code_fingerprint._parsed.cache_clear()
    code_fingerprint.code_fingerprint.cache_clear()
    runner = RunnerSettings(input_base="data", pipeline_root="artifacts", serving_dir="serving", beam_pipeline_args=())
    pipeline = mark_code(create_pipeline(load_config(), runner))
    return {node.id: str(node.executor_spec.encode()) for node in pipeline.components if "Resolver" not in node.id}


@pytest.mark.parametrize(
    ("file", "again", "kept"),
    [
        (
            "modules/models/attentive_crnn.py",
            {"Trainer"},
            {"AudioExampleGen", "StatisticsGen", "ExampleValidator", "AnomalyGate", "Transform"},
        ),
        ("modules/audio/features.py", {"AudioExampleGen", "Trainer"}, {"StatisticsGen", "ExampleValidator", "Pusher"}),
        ("modules/data/preprocessing.py", {"Transform"}, {"AudioExampleGen", "AnomalyGate", "Pusher"}),
        ("serving/server/batching.py", {"ServingValidator"}, {"AudioExampleGen", "Trainer", "GatedEvaluator"}),
        ("components/gated_evaluator/extractors.py", {"GatedEvaluator"}, {"AudioExampleGen", "Transform", "Trainer"}),
    ],
)
def test_an_edited_file_changes_the_keys_of_its_users(checkout, file, again, kept):
    before = keys()
    edited = checkout / file
    edited.write_text(edited.read_text() + "another = 1\n")
    after = keys()
    assert {name for name in again | kept if after[name] != before[name]} == again
