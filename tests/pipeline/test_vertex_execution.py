"""What was compiled, executed: every container's command, with the ExecutorInput that Vertex AI would pass."""

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from google.cloud import aiplatform_v1 as vertex

from components.serving_validator.child_server import served
from modules.reporting.summary import RunSummary
from pipeline.config import load_config
from pipeline.vertex import compile_pipeline
from pipeline.vertex_config import VertexConfig
from tests.fakes.dataflow import FakeDataflow
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_endpoints import Cloud
from tests.fakes.vertex_metadata import Metadata
from tests.fakes.vertex_pipelines import LocalPipelines, Task
from tests.fakes.vertex_runs import CustomJobs, can_isolate

GOLDEN = Path(__file__).parents[1] / "golden" / "vertex.yaml"
SMALL = ("tuner.enabled=false", "training.family=original_cnn", "training.epochs=6", "gate.min_uar=0.01",
         "gate.min_slice_uar=0.01", "augmentation.variants=[plain]", "ingest.pattern=span-{SPAN}/*/*")  # fmt: skip
SEARCH = ("tuner.enabled=true", "tuner.max_trials=2", "tuner.epochs=1", "vertex.tuner.parallel_trials=2")

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
    """The demo corpus as the second span of recordings; the first has a single one, of no known speaker."""
    folder = tmp_path_factory.mktemp("spans")
    (folder / "span-1" / "Actor_01").mkdir(parents=True)
    (folder / "span-1" / "Actor_01" / "03-01-01-01-01-01-01.wav").touch()
    (folder / "span-2").symlink_to(demo_data)
    return folder


@pytest.fixture(scope="module")
def ingested(spans, tmp_path_factory) -> dict[str, Task]:
    """The beginning of the pipeline, with Beam inside the containers."""
    folder = tmp_path_factory.mktemp("vertex")
    job = compile_pipeline(configured(folder, spans, "vertex.dataflow.enabled=false"))
    return LocalPipelines(folder, IMAGE_ENVIRON).run(job, until=["StatisticsGen"])


def test_the_examplegen_reads_the_newest_span(ingested):
    (examples,) = ingested["AudioExampleGen"].outputs["examples"]
    assert examples["metadata"]["custom:span"] == 2
    assert examples["metadata"]["input_fingerprint"]
    splits = Path(examples["uri"])
    assert all(list(splits.glob(f"Split-{split}/*.gz")) for split in ("train", "eval", "test"))


def test_what_follows_reads_what_it_wrote(ingested):
    assert set(ingested) == {"AudioExampleGen", "StatisticsGen"}
    assert all(task.attempts == 1 for task in ingested.values())
    (statistics,) = ingested["StatisticsGen"].outputs["statistics"]
    assert (Path(statistics["uri"]) / "Split-train" / "FeatureStats.pb").stat().st_size > 0


@pytest.mark.slow
def test_dataflow_workers_write_the_same_examples(ingested, spans, tmp_path):
    """The real DataflowRunner stages the ExampleGen and submits it; a process of its own does the work."""
    config = configured(tmp_path, spans)
    job = compile_pipeline(config)
    with FakeDataflow(tmp_path) as dataflow:
        _direct(job, dataflow)
        done = LocalPipelines(tmp_path, IMAGE_ENVIRON | dataflow.environ).run(job, until=["AudioExampleGen"])
        (submitted,) = dataflow.jobs.values()
    assert submitted.state == "JOB_STATE_DONE", submitted.log
    environment = submitted.submitted["environment"]
    assert environment["serviceAccountEmail"] == config.vertex.service_account
    assert config.vertex.image in json.dumps(environment["workerPools"])
    assert _files(done) == _files(ingested)


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


def _files(tasks: dict[str, Task]) -> dict[str, bytes]:
    """What lies in the splits, by path."""
    (examples,) = tasks["AudioExampleGen"].outputs["examples"]
    folder = Path(examples["uri"])
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("Split-*/*"))}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    not can_isolate(), reason="unshare --net is not allowed here, and CustomJobs need a network of their own"
)
def test_every_container_runs_through_to_a_pushed_model(spans, tmp_path):
    """Tuning and training in CustomJobs, Beam on Dataflow, the model on an endpoint that answers about a recording.

    And a second run, which finds the first one's model.
    """
    # TFX's Tuner works in /tmp, where it would find the trials of an earlier test. So small a difference has no effect.
    never_seen = f"training.early_stopping_min_delta={time.time_ns() * 1e-30}"
    config = configured(tmp_path, spans, *SEARCH, never_seen)
    job = compile_pipeline(config)
    custom_jobs, metadata = CustomJobs(tmp_path, IMAGE_ENVIRON), Metadata()
    endpoints = Cloud()
    services = {"job_service": custom_jobs, "metadata_service": metadata, **endpoints.services()}
    with (
        contextlib.ExitStack() as containers,
        FakeVertex(tmp_path, services, region=config.vertex.region) as cloud,
        FakeDataflow(tmp_path) as dataflow,
    ):
        endpoints.serve = lambda folder: containers.enter_context(served(str(folder), timeout_sec=300))
        on_dataflow = _direct(job, dataflow)
        pipelines = LocalPipelines(tmp_path, IMAGE_ENVIRON | cloud.environ | dataflow.environ)
        first = pipelines.run(job, run_id="run-1")
        second = pipelines.run(job, run_id="run-2")

    assert set(first) == set(job["pipelineSpec"]["root"]["dag"]["tasks"])
    tuning, training = custom_jobs.jobs.values()
    for custom_job in (tuning, training):
        assert custom_job.state == vertex.JobState.JOB_STATE_SUCCEEDED
        assert custom_job.job_spec.worker_pool_specs[0].container_spec.image_uri == config.vertex.gpu_image
    assert [pool.replica_count for pool in tuning.job_spec.worker_pool_specs] == [1, 1]
    assert training.job_spec.scheduling.strategy == vertex.Scheduling.Strategy.SPOT

    assert len(on_dataflow) >= 4
    assert all(done.state == "JOB_STATE_DONE" for done in dataflow.jobs.values())
    assert {done.submitted["labels"]["node"] for done in dataflow.jobs.values()} == {
        name.removesuffix("_executor").lower() for name in on_dataflow
    }

    assert first["BaselineResolver-model-resolver"].outputs == {"model": []}
    summary = _summary(first)
    assert summary.verdict.blessed
    assert summary.baseline is None
    assert len(summary.tuning.trials) == 2
    assert summary.training.hyperparameters == summary.tuning.ranked[0].hyperparameters
    assert (tmp_path / "serving" / summary.pushed.version / "saved_model.pb").is_file()

    (model,) = first["Trainer"].outputs["model"]
    assert second["BaselineResolver-model-resolver"].outputs == {"model": [model]}
    assert all(second[name].cached for name in ("AudioExampleGen", "StatisticsGen", "Transform", "Trainer"))
    assert _summary(second).baseline is not None
    _assert_logged(metadata, {"run-1": first, "run-2": second})
    assert _versions(tmp_path / "serving") == [summary.pushed.version]
    assert endpoints.traffic() == {summary.pushed.version: 100}
    assert summary.pushed.endpoint.startswith("vertex://example-project/europe-west4/")


def _versions(serving: Path) -> list[str]:
    return [path.name for path in serving.iterdir() if path.name.isdigit()]


def _assert_logged(metadata: Metadata, runs: dict[str, dict[str, Task]]) -> None:
    """That each run is one of the experiment, with what its report says."""
    contexts = [metadata.context(f"ser-{name}") for name in runs]
    assert metadata.children[metadata.context("ser").name] == [context.name for context in contexts]
    for context, tasks in zip(contexts, runs.values(), strict=True):
        summary, (report,) = _summary(tasks), tasks["RunReport"].outputs["report"]
        uar = summary.evaluation.metric("uar")
        logged = [context.metadata["_metrics"][f"test_uar{bound}"] for bound in ("", "_low", "_high")]
        assert logged == [uar.value, uar.low, uar.high]
        assert report["metadata"]["metric.test_uar"] == uar.value
        assert context.metadata["_params"]["report"] == report["uri"]
        assert [where.error for where in summary.logged] == [None, None]


def _summary(tasks: dict[str, Task]) -> RunSummary:
    (report,) = tasks["RunReport"].outputs["report"]
    return RunSummary.from_json((Path(report["uri"]) / "summary.json").read_text())
