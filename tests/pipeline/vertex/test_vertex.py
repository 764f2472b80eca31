"""The compiled pipeline."""

import difflib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.options import pipeline_options
from google.cloud import aiplatform_v1
from tfx.dsl.components.base import executor_spec

import runner_vertex
from pipeline.config import ConfigError, load_config
from pipeline.create import RunnerSettings, create_pipeline
from pipeline.vertex.compile import compile_pipeline, make_pipeline
from pipeline.vertex.config import VertexConfig

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
REGENERATE = ["runner_vertex.py", "compile", "--config", "tests/golden/vertex.yaml", "--output"]


@pytest.fixture(scope="module")
def spec(golden_config) -> dict:
    return compile_pipeline(golden_config)["pipelineSpec"]


def container(spec: dict, node: str) -> dict:
    return spec["deploymentSpec"]["executors"][spec["components"][node]["executorLabel"]]["container"]


def constant(spec: dict, node: str, parameter: str) -> dict:
    given = spec["root"]["dag"]["tasks"][node]["inputs"]["parameters"][parameter]
    return json.loads(given["runtimeValue"]["constant"])


def beam_options(spec: dict, node: str) -> dict:
    return pipeline_options.PipelineOptions(container(spec, node)["args"]).get_all_options()


def test_compiling_offline_writes_the_golden_pipeline(tmp_path):
    nowhere = "http://127.0.0.1:9"
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SER__", "GOOGLE_"))},
        "https_proxy": nowhere, "http_proxy": nowhere, "grpc_proxy": nowhere, "PYTHONHASHSEED": "7",
    }  # fmt: skip
    written = tmp_path / "vertex_pipeline.json"
    command = [sys.executable, *REGENERATE, str(written), "--log", str(tmp_path / "log")]
    finished = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    golden, made = ((folder / "vertex_pipeline.json").read_text().splitlines() for folder in (GOLDEN, tmp_path))
    differences = list(itertools.islice(difflib.unified_diff(golden, made, lineterm="", n=0), 20))
    regenerate = f"python {' '.join(REGENERATE)} tests/golden/vertex_pipeline.json"
    assert not differences, f"the compiled pipeline is not the golden one. If that is meant: {regenerate}"


@pytest.mark.parametrize(("image", "reported"), [("null", True), (f"image@sha256:{64 * '0'}", False)])
def test_compiling_reports_that_nothing_is_deployed(tmp_path, capfd, image, reported):
    places = ["--output", str(tmp_path / "pipeline.json"), "--log", str(tmp_path / "log")]
    values = ["--config", str(GOLDEN / "vertex.yaml"), "--set", f"vertex.endpoint.image={image}"]
    assert runner_vertex.main(["compile", *places, *values]) == 0
    assert ("vertex.endpoint.image" in capfd.readouterr().err) is reported


def test_the_example_gen_has_this_projects_driver(spec):
    check = container(spec, "AudioExampleGen")["lifecycle"]["preCacheCheck"]
    assert check["command"] == ["python", "-m", "components.audio_example_gen.vertex_driver"]


def test_both_runners_have_the_same_nodes(golden_config):
    local = create_pipeline(
        golden_config,
        RunnerSettings(input_base="/data", pipeline_root="/root", serving_dir="/serving", beam_pipeline_args=()),
    )
    here = {node.id: node for node in local.components}
    there = {node.id: node for node in make_pipeline(golden_config).components}
    assert set(there) == set(here)
    for name, node in here.items():
        assert set(there[name].outputs) <= set(node.outputs)
        if name != "BaselineResolver":  # Vertex AI resolves the baseline before the candidate exists
            assert {node.id for node in there[name].upstream_nodes} == {node.id for node in node.upstream_nodes}


def test_beam_runs_on_dataflow_in_the_worker_image(golden_config, spec):
    on_dataflow = set()
    for node in make_pipeline(golden_config).components:
        if node.id not in spec["components"]:
            continue  # the resolver, which is not a container
        options = beam_options(spec, node.id)
        if isinstance(node.executor_spec, executor_spec.BeamExecutorSpec):
            assert options["runner"] == "DataflowRunner"
            assert options["sdk_container_image"] == golden_config.vertex.dataflow.image != golden_config.vertex.image
            assert options["temp_location"].startswith("gs://")
            assert options["use_public_ips"] is False
            on_dataflow.add(node.id)
        else:
            assert options["runner"] == "FnApiRunner"
    assert on_dataflow >= {"AudioExampleGen", "StatisticsGen", "Transform"}
    assert any("Evaluator" in node for node in on_dataflow)


@pytest.mark.parametrize(
    ("args", "runner"),
    [("[]", "FnApiRunner"), ("[--runner=PortableRunner,--job_endpoint=flink:8099]", "PortableRunner")],
)
def test_without_dataflow_beam_runs_in_the_containers_or_on_another_engine(golden_config, args, runner):
    config = load_config(
        GOLDEN / "vertex.yaml",
        overrides=["vertex.dataflow.enabled=false", "vertex.dataflow.image=null", f"beam.args={args}"],
        tree=VertexConfig,
    )
    options = beam_options(compile_pipeline(config)["pipelineSpec"], "AudioExampleGen")
    assert options["runner"] == runner
    assert options["job_endpoint"] == ("flink:8099" if runner == "PortableRunner" else None)


def test_every_container_has_its_machine(golden_config, spec):
    for node in spec["components"]:
        if "resolver" not in node:
            settings = golden_config.vertex.node(node)
            assert container(spec, node)["resources"] == {"cpuLimit": settings.cpu, "memoryLimit": settings.memory_gb}
    assert container(spec, "AudioExampleGen")["resources"]["memoryLimit"] == 32


def test_tasks_are_retried_except_gates_and_jobs(spec):
    tasks = spec["root"]["dag"]["tasks"]
    retries = {name: task.get("retryPolicy", {}).get("maxRetryCount", 0) for name, task in tasks.items()}
    never = {name for name, count in retries.items() if not count and "resolver" not in name}
    assert never == {"AnomalyGate", "Trainer", "Tuner"}
    assert retries["Transform"] == 2


@pytest.mark.parametrize(
    ("node", "key", "spot"),
    [("Trainer", "ai_platform_training_args", True), ("Tuner", "ai_platform_tuning_args", False)],
)
def test_training_and_tuning_are_jobs_on_gpus(spec, golden_config, node, key, spot):
    custom_config = constant(spec, node, "custom_config")
    assert custom_config["accelerators"] == 1
    assert custom_config["ai_platform_enable_vertex"] is True
    assert custom_config["ai_platform_vertex_region"] == "europe-west4"
    job = aiplatform_v1.CustomJob(display_name="x", job_spec=custom_config[key]["job_spec"])
    (pool,) = job.job_spec.worker_pool_specs
    assert pool.machine_spec.machine_type == "n1-standard-8"
    assert pool.machine_spec.accelerator_type == aiplatform_v1.AcceleratorType.NVIDIA_TESLA_T4
    assert pool.machine_spec.accelerator_count == 1
    assert pool.container_spec.image_uri == golden_config.vertex.gpu_image
    scheduling = job.job_spec.scheduling
    assert (scheduling.strategy == aiplatform_v1.Scheduling.Strategy.SPOT) is spot
    assert scheduling.restart_job_on_worker_restart is spot
    assert scheduling.timeout.total_seconds() == golden_config.vertex.trainer.timeout_sec
    assert not scheduling.max_wait_duration
    assert job.job_spec.service_account == golden_config.vertex.service_account
    assert not job.job_spec.network


def test_flex_start_has_the_configured_wait():
    wait = ["vertex.trainer.strategy=flex_start", "vertex.trainer.max_wait_sec=7200"]
    config = load_config(GOLDEN / "vertex.yaml", overrides=wait, tree=VertexConfig)
    custom_config = constant(compile_pipeline(config)["pipelineSpec"], "Trainer", "custom_config")
    scheduling = aiplatform_v1.Scheduling(custom_config["ai_platform_training_args"]["job_spec"]["scheduling"])
    assert scheduling.strategy == aiplatform_v1.Scheduling.Strategy.FLEX_START
    assert scheduling.max_wait_duration.total_seconds() == 7200


@pytest.mark.parametrize("node", ["Trainer", "Tuner"])
def test_jobs_are_in_the_configured_network(node):
    network = "projects/123/global/networks/ser"
    config = load_config(GOLDEN / "vertex.yaml", overrides=[f"vertex.network={network}"], tree=VertexConfig)
    custom_config = constant(compile_pipeline(config)["pipelineSpec"], node, "custom_config")
    (arguments,) = [value for key, value in custom_config.items() if key.endswith("_args")]
    assert arguments["job_spec"]["network"] == network


@pytest.mark.parametrize("cache", [True, False])
def test_tasks_are_cached_as_configured(cache):
    config = load_config(GOLDEN / "vertex.yaml", overrides=[f"cache={str(cache).lower()}"], tree=VertexConfig)
    tasks = compile_pipeline(config)["pipelineSpec"]["root"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached >= {"AudioExampleGen", "Transform", "Tuner", "Trainer"} if cache else not cached


def test_trials_run_in_parallel(spec):
    assert constant(spec, "Tuner", "tune_args") == {"num_parallel_trials": 4}


def test_a_span_is_a_parameter_of_the_run(golden_config, spec):
    given = spec["root"]["dag"]["tasks"]["AudioExampleGen"]["inputs"]["parameters"]["range_config"]
    assert given == {"componentInputParameter": "span_range"}
    assert compile_pipeline(golden_config, span=3)["runtimeConfig"]["parameterValues"] == golden_config.span_range(3)


def test_a_pipeline_without_spans_has_no_parameter():
    config = load_config(GOLDEN / "vertex.yaml", overrides=["ingest.pattern=*/*"], tree=VertexConfig)
    job = compile_pipeline(config)
    assert "parameterValues" not in job["runtimeConfig"]
    assert "inputDefinitions" not in job["pipelineSpec"]["root"]


def test_runs_are_logged_to_the_configured_experiment(spec, golden_config):
    assert constant(spec, "RunReport", "experiment") == {
        "name": "ser",
        "project": golden_config.vertex.project,
        "region": golden_config.vertex.region,
    }
    config = load_config(GOLDEN / "vertex.yaml", overrides=["vertex.experiment=null"], tree=VertexConfig)
    tasks = compile_pipeline(config)["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "experiment" not in tasks["RunReport"]["inputs"]["parameters"]


def test_an_unknown_node_is_refused():
    config = load_config(GOLDEN / "vertex.yaml", overrides=["vertex.nodes.Trainr.cpu=2"], tree=VertexConfig)
    with pytest.raises(ConfigError) as error:
        compile_pipeline(config)
    assert all(text in str(error.value) for text in ("vertex.nodes", "Trainr", " Trainer,"))
