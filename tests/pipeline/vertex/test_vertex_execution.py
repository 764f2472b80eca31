"""What was compiled, executed: every container's command, with the ExecutorInput that Vertex AI would pass."""

import contextlib
import dataclasses
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.cloud import aiplatform_v1 as vertex

from components.audio_example_gen import vertex_driver
from components.audio_example_gen.corpora.arrive import arrive
from modules.data.labels import EMOTIONS
from modules.reporting.summary import RunSummary
from pipeline.config import load_config
from pipeline.vertex.compile import compile_pipeline
from pipeline.vertex.config import VertexConfig
from serving.server.subprocess_server import served
from tests.fakes.dataflow import FakeDataflow
from tests.fakes.dataflow import Job as DataflowJob
from tests.fakes.isolated import can_isolate
from tests.fakes.listeners import watched
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_endpoints import Cloud
from tests.fakes.vertex_metadata import Metadata
from tests.fakes.vertex_pipelines import LocalPipelines, Task
from tests.fakes.vertex_runs import CustomJobs

pytestmark = pytest.mark.timeout(3600)

GOLDEN = Path(__file__).parents[2] / "golden" / "vertex.yaml"
SMALL = (
    *("tuner.enabled=false", "training.family=original_cnn", "training.epochs=6", "augmentation.variants=[plain]"),
    *(f"vertex.{job}.accelerator_{key}" for job in ("trainer", "tuner") for key in ("type=null", "count=0")),
    *("gate.min_uar=0.01", "gate.min_slice_uar=0.01", "ingest.pattern=span-{SPAN}/*/*", "ingest.spans=2"),
)
SEARCH = ("tuner.enabled=true", "tuner.max_trials=2", "tuner.epochs=1", "vertex.tuner.parallel_trials=2")

SPAN_CLIPS = 24 * 7 * 2 // 3

# What the image's ENV gives to every container.
IMAGE_ENVIRON = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
    "TF_USE_LEGACY_KERAS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def configured(folder: Path, data: Path, *overrides: str) -> VertexConfig:
    """The golden configuration on folders of this machine, as a bucket mounted at ``/gcs`` would be."""
    places = {"data": data, "pipeline_root": folder / "root", "serving_dir": folder / "serving"}
    values = [f"vertex.{key}={path}" for key, path in places.items()]
    return load_config(GOLDEN, overrides=[*SMALL, *values, *overrides], tree=VertexConfig)


@pytest.fixture(scope="module")
def spans(demo_data, tmp_path_factory) -> Path:
    """The demo corpus, as it arrives in three spans; the pipeline reads the newest two."""
    folder = tmp_path_factory.mktemp("spans")
    shutil.copytree(demo_data, folder / "reservoir")
    for _ in range(3):
        arrive(folder / "reservoir", folder / "data", clips=SPAN_CLIPS)
    return folder / "data"


@pytest.fixture(scope="module")
def ingested(spans, tmp_path_factory) -> Task:
    """The AudioExampleGen with Beam inside its container."""
    folder = tmp_path_factory.mktemp("vertex")
    job = compile_pipeline(configured(folder, spans, "vertex.dataflow.enabled=false"))
    return LocalPipelines(folder, IMAGE_ENVIRON).run(job, until=["AudioExampleGen"])["AudioExampleGen"]


@dataclasses.dataclass(frozen=True)
class Chain:
    """Two runs of the whole compiled pipeline, and what the cloud holds after them.

    Attributes:
        asked: What ``ser predict`` said about a recording, through the endpoint.
        listened: Addresses that containers and stand-ins listened at.
    """

    config: VertexConfig
    job: dict[str, Any]
    on_dataflow: list[str]
    first: dict[str, Task]
    second: dict[str, Task]
    custom_jobs: list[vertex.CustomJob]
    dataflow_jobs: list[DataflowJob]
    metadata: Metadata
    traffic: dict[str, int]
    asked: dict[str, Any]
    listened: set[str]

    @property
    def summary(self) -> RunSummary:
        return _summary(self.first)

    @property
    def versions(self) -> list[str]:
        return [path.name for path in Path(self.config.vertex.serving_dir).iterdir() if path.name.isdigit()]


@pytest.fixture(scope="module")
def chain(spans, tmp_path_factory) -> Chain:
    """Tuning and training in CustomJobs, Beam on Dataflow, the model on an endpoint. A second run finds the first."""
    if not can_isolate():
        pytest.skip("unshare --net is not allowed here, and jobs of Vertex and Dataflow need a network of their own")
    folder = tmp_path_factory.mktemp("chain")
    # TFX's Tuner works in /tmp, where it would find the trials of an earlier test. So small a difference has no effect.
    never_seen = f"training.early_stopping_min_delta={time.time_ns() * 1e-30}"
    config = configured(folder, spans, *SEARCH, never_seen)
    job = compile_pipeline(config)
    custom_jobs, metadata, endpoints = CustomJobs(folder, IMAGE_ENVIRON), Metadata(), Cloud()
    services = {"job_service": custom_jobs, "metadata_service": metadata, **endpoints.services()}
    with (
        watched() as listened,
        contextlib.ExitStack() as containers,
        FakeVertex(folder, services, region=config.vertex.region) as cloud,
        FakeDataflow(folder) as dataflow,
    ):
        endpoints.serve = lambda model: containers.enter_context(served(str(model), timeout_sec=300, rest=True))
        on_dataflow = _direct(job, dataflow)
        pipelines = LocalPipelines(folder, IMAGE_ENVIRON | cloud.environ | dataflow.environ)
        first, second = (pipelines.run(job, run_id=run_id) for run_id in ("run-1", "run-2"))
        asked = _ask(_summary(first).pushed.endpoint, min(spans.rglob("*.wav")), cloud.environ)
    return Chain(
        config=config, job=job, on_dataflow=on_dataflow, first=first, second=second,
        custom_jobs=list(custom_jobs.jobs.values()), dataflow_jobs=list(dataflow.jobs.values()),
        metadata=metadata, traffic=endpoints.traffic(), asked=asked, listened=listened,
    )  # fmt: skip


def test_every_task_of_the_specification_ran(chain):
    assert set(chain.first) == set(chain.second) == set(chain.job["pipelineSpec"]["root"]["dag"]["tasks"])
    assert {name: task.attempts for name, task in chain.first.items() if task.attempts > 1} == {}


def test_the_examplegen_finds_the_newest_span_and_reads_the_one_before_it_too(ingested):
    (examples,) = ingested.outputs["examples"]
    assert examples["metadata"]["custom:span"] == 3
    assert examples["metadata"]["input_fingerprint"]
    assert all(list(Path(examples["uri"]).glob(f"Split-{split}/*.gz")) for split in ("train", "eval", "test"))
    summary = json.loads((Path(examples["uri"]) / "ingest.json").read_text())
    assert summary["spans"] == {"span-2": SPAN_CLIPS, "span-3": SPAN_CLIPS}


def test_a_run_after_the_retention_uses_nothing_from_the_cache_that_is_deleted(spans, tmp_path):
    """The clock of the driver moves on; what is then older than the retention is deleted, and a run follows.

    The rest of the pipeline depends on these two tasks.
    """
    config = configured(tmp_path, spans, "vertex.dataflow.enabled=false", "vertex.default_node.retries=0")
    vertex = config.vertex
    environ = {"PYTHONPATH": str(tmp_path / "clock"), "PYTHONDONTWRITEBYTECODE": "1"}
    pipelines, job = LocalPipelines(tmp_path, IMAGE_ENVIRON | environ), compile_pipeline(config)
    period_sec = vertex.cache_max_age_days * 86400
    begin = period_sec - time.time() % period_sec
    found = []
    for day in (0, vertex.cache_max_age_days - 1, vertex.run_retention_days + 1):
        set_clock(tmp_path / "clock", begin + day * 86400)
        delete_older(Path(vertex.pipeline_root), time.time() + (day - vertex.run_retention_days) * 86400)
        found.append(pipelines.run(job, run_id=f"run-{day}", until=["CuratedSchema"]))
    assert [{task.cached for task in tasks.values()} for tasks in found] == [{False}, {True}, {False}]
    for artifact in (artifact for task in found[-1].values() for (artifact,) in task.outputs.values()):
        assert any(path.is_file() for path in Path(artifact["uri"]).rglob("*")), artifact["uri"]


def set_clock(folder: Path, ahead_sec: float) -> None:
    """Let drivers see a later time; not the executors, since Beam pickles ``time.time``."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"""
import sys, time
if "{vertex_driver.__name__}" in sys.orig_argv:
    _now = time.time
    time.time = lambda: _now() + {ahead_sec}
""")


def delete_older(folder: Path, time_sec: float) -> None:
    """Delete files that were written before a time, as a bucket's lifecycle rule does."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime < time_sec:
            path.unlink()


def test_what_follows_reads_what_it_wrote(chain):
    (statistics,) = chain.first["StatisticsGen"].outputs["statistics"]
    assert (Path(statistics["uri"]) / "Split-train" / "FeatureStats.pb").stat().st_size > 0


def test_dataflow_workers_write_the_same_examples(chain, ingested):
    """The real DataflowRunner staged the ExampleGen and submitted it; a process of its own did the work."""
    (submitted,) = [job for job in chain.dataflow_jobs if job.submitted["labels"]["node"] == "audioexamplegen"]
    assert submitted.state == "JOB_STATE_DONE", submitted.log
    environment = submitted.submitted["environment"]
    assert environment["serviceAccountEmail"] == chain.config.vertex.service_account
    assert chain.config.vertex.dataflow.image in json.dumps(environment["workerPools"])
    assert _files(chain.first["AudioExampleGen"]) == _files(ingested)


def test_dataflow_did_the_work_of_every_node_that_uses_beam(chain):
    assert len(chain.on_dataflow) >= 4
    assert all(job.state == "JOB_STATE_DONE" for job in chain.dataflow_jobs)
    assert {job.submitted["labels"]["node"] for job in chain.dataflow_jobs} == {
        name.removesuffix("_executor").lower() for name in chain.on_dataflow
    }


def test_tuning_and_training_were_custom_jobs(chain):
    tuning, training = chain.custom_jobs
    for job in (tuning, training):
        assert job.state == vertex.JobState.JOB_STATE_SUCCEEDED
        assert job.job_spec.worker_pool_specs[0].container_spec.image_uri == chain.config.vertex.image
    assert [pool.replica_count for pool in tuning.job_spec.worker_pool_specs] == [1, 1]
    assert training.job_spec.scheduling.strategy == vertex.Scheduling.Strategy.SPOT
    assert len(chain.summary.tuning.trials) == 2
    assert chain.summary.training.hyperparameters == chain.summary.tuning.ranked[0].hyperparameters


def test_the_model_was_blessed_and_pushed(chain):
    assert chain.summary.verdict.blessed
    assert chain.versions == [chain.summary.pushed.version]
    assert (Path(chain.config.vertex.serving_dir) / chain.summary.pushed.version / "saved_model.pb").is_file()


def test_the_endpoint_answers_about_a_recording(chain):
    assert chain.traffic == {chain.summary.pushed.version: 100}
    assert chain.summary.pushed.endpoint == "vertex://example-project/europe-west4/ser"
    assert chain.asked["model_version"] == int(chain.summary.pushed.version)
    model = tf.saved_model.load(str(Path(chain.config.vertex.serving_dir) / chain.summary.pushed.version))
    own = model.signatures["serving_default"](audio=tf.constant([Path(chain.asked["file"]).read_bytes()]))
    expected = dict(zip(EMOTIONS, own["probabilities"][0].numpy(), strict=True))
    assert chain.asked["probabilities"] == pytest.approx(expected, abs=1e-3)


def test_the_second_run_finds_the_model_of_the_first(chain):
    assert chain.first["BaselineResolver-model-resolver"].outputs == {"model": []}
    assert chain.summary.baseline is None
    (model,) = chain.first["Trainer"].outputs["model"]
    assert chain.second["BaselineResolver-model-resolver"].outputs == {"model": [model]}
    assert all(chain.second[name].cached for name in ("AudioExampleGen", "StatisticsGen", "Transform", "Trainer"))
    assert _summary(chain.second).baseline is not None


def test_each_run_is_one_of_the_experiment_with_what_its_report_says(chain):
    runs = {"run-1": chain.first, "run-2": chain.second}
    contexts = [chain.metadata.context(f"ser-{name}") for name in runs]
    assert chain.metadata.children[chain.metadata.context("ser").name] == [context.name for context in contexts]
    for context, tasks in zip(contexts, runs.values(), strict=True):
        summary, (report,) = _summary(tasks), tasks["RunReport"].outputs["report"]
        uar = summary.evaluation.metric("uar")
        logged = [context.metadata["_metrics"][f"test_uar{bound}"] for bound in ("", "_low", "_high")]
        assert logged == [uar.value, uar.low, uar.high]
        assert report["metadata"]["metric.test_uar"] == uar.value
        assert context.metadata["_params"]["report"] == report["uri"]
        assert [where.error for where in summary.logged] == [None, None]


def test_nothing_listened_beyond_loopback(chain):
    assert chain.listened
    assert all(ipaddress.ip_address(address).is_loopback for address in chain.listened), chain.listened


def _direct(job: dict, dataflow: FakeDataflow) -> list[str]:
    """Sends Dataflow's clients to the stand-in and returns which nodes they are of.

    Artifacts are on this machine's disk here, while Dataflow's own files must be in a bucket.
    """
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    bucket = "gs://example-pipelines/dataflow"
    found = []
    for name, executor in executors.items():
        arguments = executor.get("container", {}).get("args", [])
        if "--runner=DataflowRunner" in arguments:
            arguments += [f"--temp_location={bucket}/tmp", f"--staging_location={bucket}/staging", *dataflow.beam_args]
            found.append(name)
    return found


def _ask(address: str, recording: Path, environ: dict[str, str]) -> dict[str, Any]:
    """What a user would give on the command line."""
    ser = [sys.executable, "-c", "from cli.main import main; main()"]
    command = [*ser, "predict", "--json", "--timeout-sec", "60", "--address", address, str(recording)]
    asked = subprocess.run(command, env=IMAGE_ENVIRON | environ, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


def _files(ingest: Task) -> dict[str, bytes]:
    """What lies in the splits, by path."""
    (examples,) = ingest.outputs["examples"]
    folder = Path(examples["uri"])
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("Split-*/*"))}


def _summary(tasks: dict[str, Task]) -> RunSummary:
    (report,) = tasks["RunReport"].outputs["report"]
    return RunSummary.from_json((Path(report["uri"]) / "summary.json").read_text())
