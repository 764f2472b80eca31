"""Execution of the compiled pipeline: each container's command, with the ExecutorInput that Vertex AI passes."""

import contextlib
import dataclasses
import functools
import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.cloud import aiplatform_v1 as vertex

from components.audio_example_gen import vertex_driver
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
from tests.fakes.storage import FakeStorage
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_endpoints import Cloud
from tests.fakes.vertex_metadata import Metadata
from tests.fakes.vertex_pipelines import LocalPipelines, Task
from tests.fakes.vertex_runs import CustomJobs
from tests.pipeline.vertex.grants import PIPELINE, Call, granted, missing

pytestmark = pytest.mark.timeout(3600)

GOLDEN = Path(__file__).parents[2] / "golden" / "vertex.yaml"
SMALL = (
    *("tuner.enabled=false", "training.family=attentive_crnn", "training.epochs=8", "augmentation.variants=[plain]"),
    *(f"vertex.{job}.accelerator_{key}" for job in ("trainer", "tuner") for key in ("type=null", "count=0")),
    *("gate.min_adjusted_uar=0", "gate.min_slice_adjusted_uar=0", "ingest.pattern=span-{SPAN}/*/*", "ingest.spans=2"),
)
SEARCH = ("tuner.enabled=true", "tuner.max_trials=2", "tuner.epochs=1", "vertex.tuner.parallel_trials=2")

SPAN_CLIPS = 24 * 7 * 2 // 3

RESERVOIR = "gs://example-data/reservoir"
PLACES = {
    "data": "gs://example-data/recordings",
    "pipeline_root": "gs://example-pipelines/root",
    "serving_dir": "gs://example-models/ser",
}
# As the buckets of deploy/terraform/main.tf are divided.
BUCKETS = ("example-data", "example-pipelines", "example-models")
ARRIVALS = """
from cli.main import main
for _ in range(3):
    try:
        main()
    except SystemExit as ended:
        assert not ended.code
"""

# What the image's ENV gives to every container.
IMAGE_ENVIRON = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
    "TF_USE_LEGACY_KERAS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "GCS_READ_CACHE_BLOCK_SIZE_MB": "4",
}


def configured(*overrides: str) -> VertexConfig:
    """The golden configuration with small settings."""
    values = [f"vertex.{key}={address}" for key, address in PLACES.items()]
    return load_config(GOLDEN, overrides=[*SMALL, *values, *overrides], tree=VertexConfig)


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Iterator[FakeStorage]:
    with FakeStorage(tmp_path_factory.mktemp("buckets"), *BUCKETS) as served:
        yield served


def _run(words: list[str], environ: dict[str, str]) -> str:
    ended = subprocess.run(
        [sys.executable, *words], env=IMAGE_ENVIRON | environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def spans(demo_data, storage) -> list[str]:
    """Addresses of the demo corpus, as it arrives in three spans; the pipeline reads the newest two."""
    storage.upload(demo_data, RESERVOIR)
    words = ["arrive", "--reservoir", RESERVOIR, "--into", PLACES["data"], "--clips", str(SPAN_CLIPS)]
    _run(["-c", ARRIVALS, "corpus", *words], storage.environ)
    return storage.addresses(PLACES["data"])


@pytest.fixture(scope="module")
def ingested(spans, storage, tmp_path_factory) -> Task:
    """The AudioExampleGen with Beam inside its container."""
    job = compile_pipeline(configured("vertex.dataflow.enabled=false"))
    pipelines = LocalPipelines(
        tmp_path_factory.mktemp("vertex"), IMAGE_ENVIRON | storage.environ, read_text=storage.read_text
    )
    return pipelines.run(job, run_id="run-0", until=["AudioExampleGen"])["AudioExampleGen"]


def _summary(storage: FakeStorage, tasks: dict[str, Task]) -> RunSummary:
    (report,) = tasks["RunReport"].outputs["report"]
    return RunSummary.from_json(storage.read_text(f"{report['uri']}/summary.json"))


@dataclasses.dataclass(frozen=True)
class Chain:
    """Two runs of the whole compiled pipeline, and the state of the cloud after them.

    Attributes:
        prediction: Output of ``ser predict`` for a recording, through the endpoint.
        prediction_of_folder: The same from a temporary server on the pushed versions.
        folder: Working folder of the processes, with their logs.
        bucket_calls: Calls of the runs to buckets, one for each permission and bucket.
        listened: Addresses at which containers and fakes listened.
    """

    folder: Path
    storage: FakeStorage
    config: VertexConfig
    job: dict[str, Any]
    on_dataflow: list[str]
    first: dict[str, Task]
    second: dict[str, Task]
    custom_jobs: list[vertex.CustomJob]
    dataflow_jobs: list[DataflowJob]
    metadata: Metadata
    traffic: dict[str, int]
    prediction: dict[str, Any]
    prediction_of_folder: dict[str, Any]
    bucket_calls: list[Call]
    listened: set[str]

    @property
    def summary(self) -> RunSummary:
        return _summary(self.storage, self.first)

    @property
    def versions(self) -> set[str]:
        serving_dir = self.config.vertex.serving_dir
        names = {path.removeprefix(f"{serving_dir}/").split("/")[0] for path in self.storage.addresses(serving_dir)}
        return {name for name in names if name.isdigit()}


def _direct(job: dict, dataflow: FakeDataflow) -> list[str]:
    """Send Dataflow's clients to the fake and return their nodes."""
    on_dataflow = []
    for name, executor in job["pipelineSpec"]["deploymentSpec"]["executors"].items():
        arguments = executor.get("container", {}).get("args", [])
        if "--runner=DataflowRunner" in arguments:
            arguments += dataflow.beam_args
            on_dataflow.append(name)
    return on_dataflow


def _fetch(storage: FakeStorage, folder: Path, address: str) -> Path:
    """Download a deployed model's artifact, as Vertex AI does for its container."""
    local = folder / "deployed" / address.removeprefix("gs://")
    storage.download(address, local)
    return local


def _predict(where: list[str], recording: str, environ: dict[str, str]) -> dict[str, Any]:
    """Return the output of ``ser predict``."""
    ser = ["-c", "from cli.main import main; main()"]
    return json.loads(_run([*ser, "predict", "--json", "--timeout-sec", "60", *where, recording], environ))


def _bucket_calls(recorded: list[tuple[str, str]]) -> list[Call]:
    """Return the calls that the fake of Cloud Storage recorded, each with the permission that it requires."""
    made = {(address.split("/")[2], permission) for permission, address in recorded}
    return [(PIPELINE, bucket.removeprefix("example-"), "a run", [permission]) for bucket, permission in sorted(made)]


@pytest.fixture(scope="module")
def chain(spans, storage, tmp_path_factory) -> Chain:
    """Tuning and training in CustomJobs, Beam on Dataflow, the model on an endpoint. A second run finds the first."""
    if not can_isolate():
        pytest.skip("unshare --net is not allowed here, and jobs of Vertex and Dataflow need a network of their own")
    folder = tmp_path_factory.mktemp("chain")
    # TFX's Tuner works in /tmp, where it would find the trials of an earlier test. So small a difference has no effect.
    never_seen = f"training.early_stopping_min_delta={time.time_ns() * 1e-30}"
    config = configured(*SEARCH, never_seen)
    job = compile_pipeline(config)
    custom_jobs = CustomJobs(folder, IMAGE_ENVIRON | storage.environ, storage.sockets)
    metadata, endpoints = Metadata(), Cloud(fetch=functools.partial(_fetch, storage, folder))
    services = {"job_service": custom_jobs, "metadata_service": metadata, **endpoints.services()}
    with (
        watched() as listened,
        contextlib.ExitStack() as containers,
        FakeVertex(folder, services, region=config.vertex.region) as cloud,
        FakeDataflow(folder, IMAGE_ENVIRON, storage) as dataflow,
    ):
        endpoints.serve = lambda model: containers.enter_context(served(str(model), timeout_sec=300, rest=True))
        on_dataflow = _direct(job, dataflow)
        storage.route(cloud.https_ports)
        environ = cloud.environ | storage.environ
        pipelines = LocalPipelines(folder, IMAGE_ENVIRON | environ, read_text=storage.read_text)
        earlier = len(storage.calls)
        first, second = (pipelines.run(job, run_id=run_id) for run_id in ("run-1", "run-2"))
        bucket_calls = _bucket_calls(storage.calls[earlier:])
        recording = next(address for address in spans if address.endswith(".wav"))
        prediction = _predict(["--address", _summary(storage, first).pushed.endpoint], recording, environ)
        prediction_of_folder = _predict(["--model-base-path", config.vertex.serving_dir], recording, environ)
    return Chain(
        folder=folder, storage=storage, config=config, job=job, on_dataflow=on_dataflow, first=first, second=second,
        custom_jobs=list(custom_jobs.jobs.values()), dataflow_jobs=list(dataflow.jobs.values()),
        metadata=metadata, traffic=endpoints.traffic(), bucket_calls=bucket_calls,
        prediction=prediction, prediction_of_folder=prediction_of_folder, listened=listened,
    )  # fmt: skip


def test_every_task_of_the_specification_ran(chain):
    assert set(chain.first) == set(chain.second) == set(chain.job["pipelineSpec"]["root"]["dag"]["tasks"])
    assert {name: task.attempts for name, task in chain.first.items() if task.attempts > 1} == {}


def _files(storage: FakeStorage, ingest: Task) -> dict[str, bytes]:
    """Return the files of the splits by path."""
    (examples,) = ingest.outputs["examples"]
    addresses = storage.addresses(f"{examples['uri']}/Split-")
    return {address.removeprefix(f"{examples['uri']}/"): storage.read_bytes(address) for address in addresses}


def test_the_newest_span_and_the_one_before_are_read(ingested, storage):
    (examples,) = ingested.outputs["examples"]
    assert examples["metadata"]["custom:span"] == 3
    assert examples["metadata"]["input_fingerprint"]
    assert {path.split("/")[0] for path in _files(storage, ingested)} == {"Split-train", "Split-eval", "Split-test"}
    summary = json.loads(storage.read_text(f"{examples['uri']}/ingest.json"))
    assert summary["spans"] == {"span-2": SPAN_CLIPS, "span-3": SPAN_CLIPS}


def set_clock(folder: Path, ahead_sec: float) -> None:
    """Let drivers see a later time; not the executors, since Beam pickles ``time.time``."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"""
import sys, time
if "{vertex_driver.__name__}" in sys.orig_argv:
    _now = time.time
    time.time = lambda: _now() + {ahead_sec}
""")


def test_deleted_artifacts_are_not_used_from_the_cache(spans, storage, tmp_path):
    """A run after the driver's clock has advanced and artifacts older than the retention were deleted.

    The rest of the pipeline depends on these two tasks.
    """
    root = "gs://example-pipelines/retention"
    config = configured(
        "vertex.dataflow.enabled=false", "vertex.default_node.retries=0", f"vertex.pipeline_root={root}"
    )
    environ = {"PYTHONPATH": str(tmp_path / "clock"), "PYTHONDONTWRITEBYTECODE": "1"}
    pipelines = LocalPipelines(tmp_path, IMAGE_ENVIRON | storage.environ | environ, read_text=storage.read_text)
    job, vertex = compile_pipeline(config), config.vertex
    period_sec = vertex.cache_max_age_days * 86400
    begin = period_sec - time.time() % period_sec
    runs, day = [], 0
    for next_day in (0, vertex.cache_max_age_days - 1, vertex.run_retention_days + 1):
        set_clock(tmp_path / "clock", begin + next_day * 86400)
        storage.age(root, next_day - day)
        storage.expire(root, vertex.run_retention_days)
        runs.append(pipelines.run(job, run_id=f"run-{next_day}", until=["CuratedSchema"]))
        day = next_day
    assert [{task.cached for task in tasks.values()} for tasks in runs] == [{False}, {True}, {False}]
    for artifact in (artifact for task in runs[-1].values() for (artifact,) in task.outputs.values()):
        assert storage.addresses(artifact["uri"]), artifact["uri"]


def test_each_recording_moves_from_the_reservoir_to_one_span(spans, storage):
    wavs = [address for address in spans if address.endswith(".wav")]
    assert len(wavs) == len({address.rpartition("/")[2] for address in wavs}) == 3 * SPAN_CLIPS
    assert not [address for address in storage.addresses(RESERVOIR) if address.endswith(".wav")]


def test_downstream_tasks_read_the_examples(chain):
    (statistics,) = chain.first["StatisticsGen"].outputs["statistics"]
    assert chain.storage.object(f"{statistics['uri']}/Split-train/FeatureStats.pb").size_bytes > 0


def test_dataflow_workers_write_the_same_examples(chain, ingested):
    """The real DataflowRunner staged the ExampleGen and submitted it; a process of its own did the work."""
    (submitted,) = [job for job in chain.dataflow_jobs if job.submitted["labels"]["node"] == "audioexamplegen"]
    assert submitted.state == "JOB_STATE_DONE", submitted.log
    environment = submitted.submitted["environment"]
    assert environment["serviceAccountEmail"] == chain.config.vertex.service_account
    assert chain.config.vertex.dataflow.image in json.dumps(environment["workerPools"])
    assert _files(chain.storage, chain.first["AudioExampleGen"]) == _files(chain.storage, ingested)


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
    found = chain.summary.tuning.ranked[0].hyperparameters
    assert found
    assert found.items() <= chain.summary.training.hyperparameters.items()


def test_the_model_was_blessed_and_pushed(chain):
    assert chain.summary.verdict.blessed
    assert chain.versions == {chain.summary.pushed.version}
    assert chain.storage.object(f"{chain.config.vertex.serving_dir}/{chain.summary.pushed.version}/saved_model.pb")


def test_the_endpoint_answers_about_a_recording(chain, tmp_path):
    assert chain.traffic == {chain.summary.pushed.version: 100}
    assert chain.summary.pushed.endpoint == "vertex://example-project/europe-west4/ser"
    assert chain.prediction["model_version"] == int(chain.summary.pushed.version)
    chain.storage.download(f"{chain.config.vertex.serving_dir}/{chain.summary.pushed.version}", tmp_path)
    model = tf.saved_model.load(str(tmp_path))
    own = model.signatures["serving_default"](audio=tf.constant([chain.storage.read_bytes(chain.prediction["file"])]))
    expected = dict(zip(EMOTIONS, own["probabilities"][0].numpy(), strict=True))
    for prediction in (chain.prediction, chain.prediction_of_folder):
        assert prediction["probabilities"] == pytest.approx(expected, abs=1e-3)


def test_the_second_run_finds_the_model_of_the_first(chain):
    assert chain.first["BaselineResolver-model-resolver"].outputs == {"model": []}
    assert chain.summary.baseline is None
    (model,) = chain.first["Trainer"].outputs["model"]
    assert chain.second["BaselineResolver-model-resolver"].outputs == {"model": [model]}
    assert all(chain.second[name].cached for name in ("AudioExampleGen", "StatisticsGen", "Transform", "Trainer"))
    assert _summary(chain.storage, chain.second).baseline is not None


def test_each_run_is_logged_to_the_experiment_as_in_its_report(chain):
    runs = {"run-1": chain.first, "run-2": chain.second}
    contexts = [chain.metadata.context(f"ser-{name}") for name in runs]
    assert chain.metadata.children[chain.metadata.context("ser").name] == [context.name for context in contexts]
    for context, tasks in zip(contexts, runs.values(), strict=True):
        summary, (report,) = _summary(chain.storage, tasks), tasks["RunReport"].outputs["report"]
        uar = summary.evaluation.metric("uar")
        logged = [context.metadata["_metrics"][f"test_uar{bound}"] for bound in ("", "_low", "_high")]
        assert logged == [uar.value, uar.low, uar.high]
        assert report["metadata"]["metric.test_uar"] == uar.value
        assert context.metadata["_params"]["report"] == report["uri"]
        assert [where.error for where in summary.logged] == [None, None]


def test_runs_have_the_permissions_of_their_calls_to_buckets(chain):
    assert {place for _, place, _, _ in chain.bucket_calls} == {"data", "pipelines", "models"}
    assert missing(granted(), chain.bucket_calls) == []


def test_each_role_on_a_bucket_is_needed(chain):
    """Without it, a call of a run would fail."""
    grants = granted()
    places = {place for _, place, _, _ in chain.bucket_calls}
    on_buckets = [grant for grant in grants if grant.account == PIPELINE and grant.place in places]
    assert len(on_buckets) >= len(places)
    without = {(grant.place, grant.role): [other for other in grants if other is not grant] for grant in on_buckets}
    assert [key for key, rest in without.items() if not missing(rest, chain.bucket_calls)] == []


def test_nothing_listened_beyond_loopback(chain):
    assert chain.listened
    assert all(ipaddress.ip_address(address).is_loopback for address in chain.listened), chain.listened


def test_everything_lies_in_buckets(chain):
    """A process that took an address for a path would have left a folder ``gs:``."""
    tasks = [*chain.first.values(), *chain.second.values()]
    uris = [artifact["uri"] for task in tasks for artifacts in task.outputs.values() for artifact in artifacts]
    assert uris
    assert all(uri.startswith("gs://") for uri in uris), uris
    assert not list(chain.folder.rglob("gs:*"))
