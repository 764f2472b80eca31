"""The configuration for Vertex AI, and what the runner says of it before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import runner_vertex
from pipeline.config import ConfigError, load_config
from pipeline.vertex.config import VertexConfig, VertexSettings

ROOT = Path(__file__).parents[3]
VERTEX_YAML = ROOT / "configs" / "vertex.yaml"
IMAGES = ["vertex.gpu_image=image", "vertex.dataflow.image=image"]
REQUIRED = [name for name, field in VertexSettings.model_fields.items() if field.is_required()]


def test_vertex_yaml_lists_every_key_with_its_default(golden_config):
    listed = yaml.safe_load(VERTEX_YAML.read_text())["vertex"]
    assert list(listed) == list(VertexSettings.model_fields)
    given = {name: getattr(golden_config.vertex, name) for name in [*REQUIRED, "gpu_image"]}
    worker = {"image": golden_config.vertex.dataflow.image}
    with_defaults = VertexSettings.model_validate({**given, "dataflow": worker}).model_dump(mode="json")
    assert {**listed, **given, "dataflow": {**listed["dataflow"], **worker}} == with_defaults


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_value_is_named_with_how_to_set_it(key, golden_config):
    values = [f"vertex.{name}={getattr(golden_config.vertex, name)}" for name in REQUIRED if name != key]
    with pytest.raises(ConfigError) as error:
        load_config(VERTEX_YAML, overrides=values + IMAGES, tree=VertexConfig)
    (_, line) = str(error.value).splitlines()
    assert f"--set vertex.{key}=VALUE" in line
    assert f"SER__VERTEX__{key.upper()}" in line


def test_environment_and_command_line_reach_every_level(golden_config):
    environ = {f"SER__VERTEX__{name.upper()}": str(getattr(golden_config.vertex, name)) for name in REQUIRED}
    environ |= {"SER__VERTEX__TRAINER__SPOT": "true", "SER__VERTEX__NODES__TRANSFORM__CPU": "16"}
    config = load_config(
        VERTEX_YAML, environ=environ, overrides=["vertex.dataflow.max_workers=3", *IMAGES], tree=VertexConfig
    )
    assert config.vertex.trainer.spot
    assert config.vertex.node("Transform").cpu == 16
    assert config.vertex.node("AnomalyGate").retries == 0
    assert config.vertex.dataflow.max_workers == 3


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("vertex.pipeline_root=bucket/folder", "vertex.pipeline_root"),
        ("vertex.trainer.accelerator_type=null", "give both, or null and 0"),
        ("vertex.gpu_image=null", "gpu_image must be set for the accelerators"),
        ("vertex.dataflow.image=null", "dataflow.image must be set for Dataflow's workers"),
        ("drift.enabled=true", "set drift.reference or drift.enabled=false"),
        ("vertex.endpoint.canary_percent=200", "vertex.endpoint.canary_percent"),
        ("vertex.trainer.gpus=2", "allowed beside it: accelerator_count, accelerator_type"),
        ("vertex.nodes.Trainer.ram=2", "allowed beside it: cpu, memory_gb, retries"),
    ],
)
def test_an_unusable_value_is_named(override, complaint):
    with pytest.raises(ConfigError) as error:
        load_config(ROOT / "tests" / "golden" / "vertex.yaml", overrides=[override], tree=VertexConfig)
    assert complaint in str(error.value)


def test_a_span_needs_recordings_in_spans(golden_config):
    assert '"start_span_number": 7' in golden_config.span_range(7)["span_range"]
    assert golden_config.span_range(None) == {"span_range": ""}
    flat = golden_config.model_copy(update={"ingest": golden_config.ingest.model_copy(update={"pattern": "*/*"})})
    assert flat.span_range(None) == {}
    with pytest.raises(ConfigError, match=r"ingest\.pattern is '\*/\*'"):
        flat.span_range(7)


def test_the_runner_refuses_before_it_loads_anything(capsys):
    assert runner_vertex.main(["compile", "--config", str(VERTEX_YAML)]) == 2
    said = capsys.readouterr().err
    assert "vertex.project: must be set" in said
    assert "Loading" not in said


def test_the_runner_starts_without_anything_heavy():
    heavy = ("tensorflow", "tfx", "apache_beam", "google.cloud.aiplatform_v1")
    code = f"import sys, runner_vertex; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"
