"""Configuration for Vertex AI, and its errors before TensorFlow is loaded."""

import subprocess
import sys
from typing import get_args

import pytest
import yaml
from google.cloud.aiplatform_v1 import AcceleratorType

import runner_vertex
from pipeline.config import ConfigError, load_config
from pipeline.vertex.config import Accelerator, NodeSettings, VertexConfig, VertexSettings
from tests.paths import GOLDEN as GOLDEN_FOLDER
from tests.paths import ROOT

GOLDEN = GOLDEN_FOLDER / "vertex.yaml"

VERTEX_YAML = ROOT / "configs" / "vertex.yaml"
IMAGES = [f"vertex.{key}=image@sha256:{64 * '0'}" for key in ("gpu_image", "dataflow.image")]
REQUIRED = [name for name, field in VertexSettings.model_fields.items() if field.is_required()]


def test_vertex_yaml_has_the_required_keys_alone():
    assert yaml.safe_load(VERTEX_YAML.read_text()) == {"vertex": dict.fromkeys(REQUIRED)}


def test_every_accelerator_is_known_to_vertex_ai():
    known = {accelerator.name for accelerator in AcceleratorType if accelerator.name.startswith("NVIDIA_")}
    assert set(get_args(Accelerator)) == known


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_value_is_named_with_what_is_allowed(key, golden_config):
    values = [f"vertex.{name}={getattr(golden_config.vertex, name)}" for name in REQUIRED if name != key]
    with pytest.raises(ConfigError) as error:
        load_config(VERTEX_YAML, overrides=values + IMAGES, tree=VertexConfig)
    (problem,) = error.value.problems
    assert (problem.key, problem.code) == (f"vertex.{key}", "missing")
    assert "allowed: " in problem.text
    assert "--set KEY=VALUE" in str(error.value)


def test_environment_and_command_line_reach_every_level(golden_config):
    environ = {f"SER__VERTEX__{name.upper()}": str(getattr(golden_config.vertex, name)) for name in REQUIRED}
    environ |= {"SER__VERTEX__TRAINER__STRATEGY": "spot", "SER__VERTEX__NODES__TRANSFORM__CPU": "16"}
    config = load_config(
        VERTEX_YAML, environ=environ, overrides=["vertex.dataflow.max_workers=3", *IMAGES], tree=VertexConfig
    )
    assert config.vertex.trainer.strategy == "spot"
    assert config.vertex.node("Transform").cpu == 16
    assert config.vertex.node("AnomalyGate").retries == 0
    assert config.vertex.dataflow.max_workers == 3


@pytest.mark.parametrize(
    ("override", "key", "code"),
    [
        ("vertex.pipeline_root=bucket/folder", "vertex.pipeline_root", "string_pattern_mismatch"),
        ("vertex.image=image:latest", "vertex.image", "string_pattern_mismatch"),
        ("vertex.schedule.cron=daily", "vertex.schedule.cron", "string_pattern_mismatch"),
        ("vertex.schedule.cron=61 2 * * *", "vertex.schedule.cron", "string_pattern_mismatch"),
        ("vertex.trainer.accelerator_type=H100", "vertex.trainer.accelerator_type", "literal_error"),
        ("vertex.trainer.accelerator_type=null", "vertex.trainer", "value_error"),
        ("vertex.gpu_image=null", "vertex", "value_error"),
        ("vertex.dataflow.image=null", "vertex", "value_error"),
        ("vertex.trainer.max_wait_sec=60", "vertex.trainer", "value_error"),
        ("vertex.trainer.strategy=preemptible", "vertex.trainer.strategy", "literal_error"),
        ("vertex.trainer.accelerator_count=3", "", "value_error"),
        ("vertex.endpoint.min_replicas=4", "vertex.endpoint", "value_error"),
        ("vertex.endpoint.canary_percent=200", "vertex.endpoint.canary_percent", "less_than_equal"),
        ("vertex.trainer.gpus=2", "vertex.trainer.gpus", "extra_forbidden"),
        ("vertex.nodes.Trainer.ram=2", "vertex.nodes.Trainer.ram", "extra_forbidden"),
        ("vertex.endpoint.request_log=gs://bucket/log", "vertex.endpoint.request_log", "string_pattern_mismatch"),
        ("vertex.endpoint.request_log_rate=0", "vertex.endpoint.request_log_rate", "greater_than"),
    ],
)
def test_an_unusable_value_is_named(override, key, code):
    with pytest.raises(ConfigError) as error:
        load_config(GOLDEN, overrides=[override], tree=VertexConfig)
    assert [(problem.key, problem.code) for problem in error.value.problems] == [(key, code)]


@pytest.mark.parametrize("cron", ["TZ=Europe/Berlin 30 4 1,15 JAN-JUN *", "*/5 0-6 * * MON-FRI", "0 2 * * *"])
def test_cron_takes_lists_ranges_and_steps(cron):
    config = load_config(GOLDEN, overrides=[f"vertex.schedule.cron={cron}"], tree=VertexConfig)
    assert config.vertex.schedule.cron == cron


def test_flex_start_needs_an_accelerator():
    none = ["accelerator_type=null", "accelerator_count=0", "strategy=flex_start"]
    with pytest.raises(ConfigError) as error:
        load_config(GOLDEN, overrides=[f"vertex.trainer.{value}" for value in none], tree=VertexConfig)
    assert [(problem.key, problem.code) for problem in error.value.problems] == [("vertex.trainer", "value_error")]


def test_a_node_keeps_its_defaults_for_other_keys():
    config = load_config(GOLDEN, overrides=["vertex.nodes.trainer.memory_gb=6"], tree=VertexConfig)
    assert config.vertex.node("Trainer") == NodeSettings(cpu=1, memory_gb=6, retries=0)
    assert config.vertex.node("Tuner") == NodeSettings(cpu=1, memory_gb=4, retries=0)
    assert config.vertex.node("Transform") == NodeSettings()


def test_a_span_needs_recordings_in_spans(golden_config):
    assert '"start_span_number": 7' in golden_config.span_range(7)["span_range"]
    assert golden_config.span_range(None) == {"span_range": ""}
    flat = golden_config.model_copy(update={"ingest": golden_config.ingest.model_copy(update={"pattern": "*/*"})})
    assert flat.span_range(None) == {}
    with pytest.raises(ConfigError) as error:
        flat.span_range(7)
    assert "--span 7" in str(error.value)
    assert "'*/*'" in str(error.value)


def test_the_runner_checks_the_configuration_first(capsys):
    assert runner_vertex.main(["compile", "--config", str(VERTEX_YAML)]) == 2
    printed = capsys.readouterr().err
    assert "vertex.project" in printed
    assert "Loading" not in printed


def test_the_runner_starts_without_tensorflow():
    heavy = ("tensorflow", "tfx", "apache_beam", "google.cloud.aiplatform_v1")
    code = f"import sys, runner_vertex; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"
