"""The configuration for Vertex AI, and what the runner says of it before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import runner_vertex
from pipeline.config import ConfigError, load_config
from pipeline.vertex.config import NodeSettings, VertexConfig, VertexSettings

ROOT = Path(__file__).parents[3]
VERTEX_YAML = ROOT / "configs" / "vertex.yaml"
GOLDEN = ROOT / "tests" / "golden" / "vertex.yaml"
GPU = ["vertex.gpu_image=image"]
REQUIRED = [name for name, field in VertexSettings.model_fields.items() if field.is_required()]


def test_vertex_yaml_lists_every_key_with_its_default(golden_config):
    listed = yaml.safe_load(VERTEX_YAML.read_text())["vertex"]
    assert list(listed) == list(VertexSettings.model_fields)
    given = {name: getattr(golden_config.vertex, name) for name in [*REQUIRED, "gpu_image"]}
    with_defaults = VertexSettings.model_validate(given).model_dump(mode="json")
    assert {**listed, **given} == with_defaults


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_value_is_named_with_how_to_set_it(key, golden_config):
    values = [f"vertex.{name}={getattr(golden_config.vertex, name)}" for name in REQUIRED if name != key]
    with pytest.raises(ConfigError) as error:
        load_config(VERTEX_YAML, overrides=values + GPU, tree=VertexConfig)
    (_, line) = str(error.value).splitlines()
    assert f"--set vertex.{key}=VALUE" in line
    assert f"SER__VERTEX__{key.upper()}" in line


def test_environment_and_command_line_reach_every_level(golden_config):
    environ = {f"SER__VERTEX__{name.upper()}": str(getattr(golden_config.vertex, name)) for name in REQUIRED}
    environ |= {"SER__VERTEX__TRAINER__STRATEGY": "spot", "SER__VERTEX__NODES__TRANSFORM__CPU": "16"}
    config = load_config(
        VERTEX_YAML, environ=environ, overrides=["vertex.dataflow.max_workers=3", *GPU], tree=VertexConfig
    )
    assert config.vertex.trainer.strategy == "spot"
    assert config.vertex.node("Transform").cpu == 16
    assert config.vertex.node("AnomalyGate").retries == 0
    assert config.vertex.dataflow.max_workers == 3


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("vertex.pipeline_root=bucket/folder", "vertex.pipeline_root"),
        ("vertex.trainer.accelerator_type=null", "give both, or null and 0"),
        ("vertex.gpu_image=null", "gpu_image must be set for the accelerators"),
        ("drift.enabled=true", "set drift.reference or drift.enabled=false"),
        ("vertex.endpoint.canary_percent=200", "vertex.endpoint.canary_percent"),
        ("vertex.trainer.max_wait_sec=60", "strategy: flex_start, or max_wait_sec: null"),
        ("vertex.trainer.strategy=preemptible", "'standard', 'spot' or 'flex_start'"),
        ("vertex.trainer.accelerator_count=3", "training.batch_size is 32 and vertex.trainer.accelerator_count 3"),
        ("vertex.trainer.accelerator_type=TPU_V3", "vertex.trainer.accelerator_type"),
        ("vertex.trainer.gpus=2", "allowed beside it: accelerator_count, accelerator_type"),
        ("vertex.nodes.Trainer.ram=2", "allowed beside it: cpu, memory_gb, retries"),
    ],
)
def test_an_unusable_value_is_named(override, complaint):
    with pytest.raises(ConfigError) as error:
        load_config(GOLDEN, overrides=[override], tree=VertexConfig)
    assert complaint in str(error.value)


def test_flex_start_needs_an_accelerator():
    none = ["accelerator_type=null", "accelerator_count=0", "strategy=flex_start"]
    with pytest.raises(ConfigError, match="strategy is flex_start and accelerator_count 0"):
        load_config(GOLDEN, overrides=[f"vertex.trainer.{value}" for value in none], tree=VertexConfig)


def test_a_node_keeps_its_own_defaults_but_for_what_is_given():
    config = load_config(GOLDEN, overrides=["vertex.nodes.trainer.memory_gb=6"], tree=VertexConfig)
    assert config.vertex.node("Trainer") == NodeSettings(cpu=1, memory_gb=6, retries=0)
    assert config.vertex.node("Tuner") == NodeSettings(cpu=1, memory_gb=4, retries=0)
    assert config.vertex.node("Transform") == NodeSettings()


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
