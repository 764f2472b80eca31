import json
from pathlib import Path

import pytest
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy

from pipeline.config import ConfigError, load_config
from pipeline.create import Site, create_pipeline
from pipeline.vertex.compile import compile_pipeline
from pipeline.vertex.config import VertexConfig

GOLDEN = Path(__file__).parents[1] / "golden"


def nodes(*overrides: str, **site: object) -> dict:
    where = Site(input_base="/data", pipeline_root="/root", serving_dir="/serving", beam_pipeline_args=(), **site)
    return {node.id: node for node in create_pipeline(load_config(overrides=overrides), where).components}


def test_there_is_a_drift_monitor_only_on_request():
    assert "DriftMonitor" not in nodes()
    found = nodes("drift.enabled=true")
    assert list(found["DriftMonitor"].inputs) == ["examples", "schema", "reference"]
    assert "drift" in found["RunReport"].inputs


def test_nothing_is_transformed_before_drift_was_looked_for():
    found = nodes("drift.enabled=true")
    assert found["DriftMonitor"] in found["Transform"].upstream_nodes


def test_a_named_reference_needs_no_resolver():
    found = nodes("drift.enabled=true", "drift.reference=gs://bucket/examples/1")
    assert "DriftReferenceResolver" not in found
    assert "gs://bucket/examples/1" in found["DriftMonitor"].exec_properties["settings"]


def test_vertex_compares_with_the_reference_that_is_named():
    overrides = ["drift.enabled=true", "drift.reference=gs://bucket/examples/1", "ingest.spans=3"]
    config = load_config(GOLDEN / "vertex.yaml", overrides=overrides, tree=VertexConfig)
    tasks = compile_pipeline(config)["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "DriftReferenceResolver" not in tasks
    monitor = tasks["DriftMonitor"]["inputs"]
    assert monitor["artifacts"].keys() == {"examples", "schema"}
    settings = json.loads(monitor["parameters"]["settings"]["runtimeValue"]["constant"])
    assert settings["reference"] == "gs://bucket/examples/1"
    assert "DriftMonitor" in tasks["Transform"]["dependentTasks"]
    assert (
        '\\"spans\\": 3'
        in tasks["AudioExampleGen"]["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"]
    )


def test_where_no_examples_can_be_resolved_a_reference_must_be_named():
    with pytest.raises(ConfigError, match=r"drift\.reference"):
        nodes("drift.enabled=true", baseline_strategy=LatestBlessedModelStrategy)
