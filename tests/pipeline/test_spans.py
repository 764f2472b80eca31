"""A window of spans in the cloud, where TFX's own driver finds the newest and reads no other."""

import json
import os
from pathlib import Path

import pytest

from components.audio_example_gen.corpora.arrive import arrive
from modules.demo_corpus.corpus import write_corpus
from pipeline.config import load_config
from pipeline.vertex import compile_pipeline
from pipeline.vertex_config import VertexConfig
from tests.fakes.vertex_pipelines import LocalPipelines

GOLDEN = Path(__file__).parents[1] / "golden" / "vertex.yaml"
IMAGE_ENVIRON = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
    "TF_USE_LEGACY_KERAS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@pytest.mark.slow
def test_the_container_reads_the_spans_before_the_newest(tmp_path):
    write_corpus(tmp_path / "reservoir", clips=3 * 24 * 2, seed=0)
    for _ in range(3):
        arrive(tmp_path / "reservoir", tmp_path / "data", clips=24 * 2)
    places = {"data": tmp_path / "data", "pipeline_root": tmp_path / "root", "serving_dir": tmp_path / "serving"}
    config = load_config(
        GOLDEN,
        overrides=[
            *(f"vertex.{key}={path}" for key, path in places.items()),
            *("ingest.pattern=span-{SPAN}/*/*", "ingest.spans=2", "augmentation.variants=[plain]"),
            *("vertex.dataflow.enabled=false", "vertex.endpoint.image=null"),
        ],
        tree=VertexConfig,
    )
    done = LocalPipelines(tmp_path, IMAGE_ENVIRON).run(compile_pipeline(config), until=["AudioExampleGen"])
    (examples,) = done["AudioExampleGen"].outputs["examples"]
    assert examples["metadata"]["custom:span"] == 3
    summary = json.loads((Path(examples["uri"]) / "ingest.json").read_text())
    assert summary["spans"] == {"span-2": 48, "span-3": 48}
