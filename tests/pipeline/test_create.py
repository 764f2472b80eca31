import json
from pathlib import Path

from pipeline.config import load_config
from pipeline.create import RunnerSettings, create_pipeline
from pipeline.vertex.compile import compile_pipeline
from pipeline.vertex.config import VertexConfig

GOLDEN = Path(__file__).parents[1] / "golden"


def nodes(*overrides: str, **settings: object) -> dict:
    runner = RunnerSettings(
        input_base="/data", pipeline_root="/root", serving_dir="/serving", beam_pipeline_args=(), **settings
    )
    return {node.id: node for node in create_pipeline(load_config(overrides=overrides), runner).components}


def test_features_are_stored_once():
    written = [
        name
        for name, node in nodes("tuner.enabled=true").items()
        for channel in node.outputs.values()
        if channel.type_name == "Examples"
    ]
    assert written == ["AudioExampleGen"]


def test_the_drift_monitor_is_off_by_default():
    assert "DriftMonitor" not in nodes()
    by_id = nodes("drift.enabled=true")
    assert list(by_id["DriftMonitor"].inputs) == ["examples", "schema", "reference"]
    assert "drift" in by_id["RunReport"].inputs


def test_transform_waits_for_the_drift_monitor():
    by_id = nodes("drift.enabled=true")
    assert by_id["DriftMonitor"] in by_id["Transform"].upstream_nodes


def test_a_configured_reference_replaces_the_resolver():
    by_id = nodes("drift.enabled=true", "drift.reference=gs://bucket/examples/1")
    assert "DriftReferenceResolver" not in by_id
    assert "gs://bucket/examples/1" in by_id["DriftMonitor"].exec_properties["settings"]


def test_vertex_compares_with_the_configured_reference():
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


def test_vertex_needs_no_configured_reference():
    config = load_config(GOLDEN / "vertex.yaml", overrides=["drift.enabled=true"], tree=VertexConfig)
    parameters = compile_pipeline(config)["pipelineSpec"]["root"]["dag"]["tasks"]["DriftMonitor"]["inputs"][
        "parameters"
    ]
    assert parameters["models"]["runtimeValue"]["constant"] == config.vertex.serving_dir


def test_without_own_resolvers_the_reference_is_that_of_the_pushed_models():
    by_id = nodes("drift.enabled=true", can_resolve_examples=False)
    assert by_id["DriftMonitor"].exec_properties["models"] == "/serving"
    assert "DriftReferenceResolver" not in by_id
    assert list(by_id["DriftMonitor"].inputs) == ["examples", "schema"]
    assert list(by_id["BaselineResolver"].inputs) == ["model", "model_blessing"]
