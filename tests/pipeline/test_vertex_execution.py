"""What was compiled, executed: every container's command, with the ExecutorInput that Vertex AI would pass."""

import json
import os
from pathlib import Path

import pytest
from google.cloud import aiplatform_v1 as vertex

from modules.reporting.summary import RunSummary
from pipeline.config import load_config
from pipeline.vertex import compile_pipeline
from pipeline.vertex_config import VertexConfig
from tests.fakes.dataflow import FakeDataflow
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_pipelines import LocalPipelines, Task
from tests.fakes.vertex_runs import CustomJobs

GOLDEN = Path(__file__).parents[1] / "golden" / "vertex.yaml"
SMALL = ("tuner.enabled=false", "training.epochs=6", "gate.min_uar=0.15", "gate.min_slice_uar=0.1",
         "augmentation.variants=[plain]", "ingest.pattern=span-{SPAN}/*/*")  # fmt: skip

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
@pytest.mark.timeout(1800)
def test_every_container_runs_through_to_a_pushed_model(spans, tmp_path):
    """Training in a CustomJob, Beam on Dataflow, and a second run that finds the first one's model."""
    config = configured(tmp_path, spans)
    job = compile_pipeline(config)
    custom_jobs = CustomJobs(tmp_path, IMAGE_ENVIRON)
    with (
        FakeVertex(tmp_path, {"job_service": custom_jobs}, region=config.vertex.region) as cloud,
        FakeDataflow(tmp_path) as dataflow,
    ):
        on_dataflow = _direct(job, dataflow)
        pipelines = LocalPipelines(tmp_path, IMAGE_ENVIRON | cloud.environ | dataflow.environ)
        first = pipelines.run(job, run_id="run-1")
        second = pipelines.run(job, run_id="run-2")

    assert set(first) == set(job["pipelineSpec"]["root"]["dag"]["tasks"])
    (custom_job,) = custom_jobs.jobs.values()
    assert custom_job.state == vertex.JobState.JOB_STATE_SUCCEEDED
    assert custom_job.job_spec.scheduling.strategy == vertex.Scheduling.Strategy.SPOT
    assert custom_job.job_spec.worker_pool_specs[0].container_spec.image_uri == config.vertex.gpu_image

    assert len(on_dataflow) >= 4
    assert all(done.state == "JOB_STATE_DONE" for done in dataflow.jobs.values())
    assert {done.submitted["labels"]["node"] for done in dataflow.jobs.values()} == {
        name.removesuffix("_executor").lower() for name in on_dataflow
    }

    assert first["BaselineResolver-model-resolver"].outputs == {"model": []}
    summary = _summary(first)
    assert summary.verdict.blessed
    assert summary.baseline is None
    assert (tmp_path / "serving" / summary.pushed.version / "saved_model.pb").is_file()

    (model,) = first["Trainer"].outputs["model"]
    assert second["BaselineResolver-model-resolver"].outputs == {"model": [model]}
    assert all(second[name].cached for name in ("AudioExampleGen", "StatisticsGen", "Transform", "Trainer"))
    assert _summary(second).baseline is not None
    assert [path.name for path in (tmp_path / "serving").iterdir()] == [summary.pushed.version]


def _summary(tasks: dict[str, Task]) -> RunSummary:
    (report,) = tasks["RunReport"].outputs["report"]
    return RunSummary.from_json((Path(report["uri"]) / "summary.json").read_text())
