import shutil
from pathlib import Path

import pytest

from modules.common import code_fingerprint
from pipeline.caching import mark_code
from pipeline.config import load_config
from pipeline.create import Site, create_pipeline

ROOT = Path(__file__).parents[2]
PACKAGES = ("cli", "components", "modules", "pipeline", "schema", "serving")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_fingerprint, "_ROOT", tmp_path)
    return tmp_path


def keys() -> dict[str, str]:
    """What TFX puts into the keys of its cache beside inputs and settings, by component."""
    code_fingerprint._parsed.cache_clear()
    code_fingerprint.code_fingerprint.cache_clear()
    site = Site(input_base="data", pipeline_root="artifacts", serving_dir="serving", beam_pipeline_args=())
    pipeline = mark_code(create_pipeline(load_config(), site))
    return {node.id: str(node.executor_spec.encode()) for node in pipeline.components if "Resolver" not in node.id}


def test_unchanged_code_keeps_every_key(checkout):
    assert keys() == keys()


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
def test_an_edited_file_makes_what_uses_it_run_again(checkout, file, again, kept):
    before = keys()
    edited = checkout / file
    edited.write_text(edited.read_text() + "another = 1\n")
    after = keys()
    assert {name for name in again | kept if after[name] != before[name]} == again
