"""Tasks that start a CustomJob and wait for it, against a fake Vertex AI whose jobs end on command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from google.cloud import aiplatform_v1 as vertex
from tfx.extensions.google_cloud_ai_platform import runner
from tfx.types import artifact_utils, standard_artifacts

from components.vertex_jobs.executor import TrainerExecutor, TunerExecutor, job_id
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_runs import CustomJobs
from tests.paths import ROOT

RUNNING, FAILED, CANCELLED, SUCCEEDED = (
    vertex.JobState[f"JOB_STATE_{name}"] for name in ("RUNNING", "FAILED", "CANCELLED", "SUCCEEDED")
)
JOB = {
    "project": "example-project",
    "job_spec": {
        "worker_pool_specs": [
            {
                "machine_spec": {"machine_type": "n1-standard-8"},
                "replica_count": 1,
                "container_spec": {"image_uri": "image"},
            }
        ]
    },
}


class HeldJobs(CustomJobs):
    """Jobs that run until a test ends them, or for a number of polls."""

    looks = 10**6

    def _work(self, job: vertex.CustomJob) -> None:
        """Run nothing."""

    def get_custom_job(self, request, context):
        self.looks -= 1
        job = super().get_custom_job(request, context)
        if not self.looks:
            job.state = SUCCEEDED
        return job

    @property
    def states(self) -> list[vertex.JobState]:
        return [job.state for job in self.jobs.values()]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with FakeVertex(tmp_path_factory.mktemp("vertex"), {}).in_environment() as fake:
        yield fake


@pytest.fixture
def jobs(served, tmp_path, monkeypatch) -> HeldJobs:
    held = HeldJobs(tmp_path, {})
    served.reset({"job_service": held})
    monkeypatch.setattr(runner, "_POLLING_INTERVAL_IN_SECONDS", 0)
    return held


def properties(key: str = "ai_platform_training_args") -> dict[str, str]:
    config = {"ai_platform_enable_vertex": True, "ai_platform_vertex_region": "europe-west4", key: JOB}
    return {"custom_config": json.dumps(config)}


def outputs(folder: Path, attempt: int) -> dict[str, list[standard_artifacts.Model]]:
    """Return the executor's properties as Vertex AI passes them."""
    model = standard_artifacts.Model()
    model.uri = str(folder / "root" / "123456" / "ser-20260101" / f"Trainer_{attempt}" / "model")
    return {"model": [model]}


def start_poller(folder: Path, jobs: HeldJobs) -> subprocess.Popen[bytes]:
    """Start the first attempt in its own process and wait until it has launched its job."""
    command = [sys.executable, "-m", "tfx.scripts.run_executor", "--inputs", "{}"]
    command += ["--executor_class_path", "components.vertex_jobs.executor.TrainerExecutor"]
    command += ["--outputs", artifact_utils.jsonify_artifact_dict(outputs(folder, 1))]
    command += ["--exec-properties", json.dumps(properties())]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    while not jobs.jobs or jobs.looks == HeldJobs.looks:
        assert process.poll() is None
        time.sleep(0.1)
    return process


def test_the_next_attempt_reuses_the_job_of_a_killed_one(jobs, tmp_path):
    poller = start_poller(tmp_path, jobs)
    poller.kill()
    assert poller.wait() == -signal.SIGKILL
    (first,), (second,) = outputs(tmp_path, 1)["model"], outputs(tmp_path, 2)["model"]
    Path(first.uri).mkdir(parents=True)
    (Path(first.uri) / "saved_model.pb").write_bytes(b"model")
    jobs.looks = 3
    TrainerExecutor().Do({}, {"model": [second]}, properties())
    assert jobs.states == [SUCCEEDED]
    assert (Path(second.uri) / "saved_model.pb").read_bytes() == b"model"


def test_a_terminated_attempt_cancels_its_job(jobs, tmp_path):
    poller = start_poller(tmp_path, jobs)
    poller.terminate()
    assert poller.wait() == 128 + signal.SIGTERM
    assert jobs.states == [CANCELLED]


@pytest.mark.parametrize(("before", "launched"), [(SUCCEEDED, 1), (FAILED, 2), (CANCELLED, 2)])
def test_an_ended_job_is_repeated_unless_it_succeeded(jobs, tmp_path, before, launched):
    jobs.looks = 1
    TrainerExecutor().Do({}, outputs(tmp_path, 1), properties())
    (job,) = jobs.jobs.values()
    job.state, jobs.looks = before, 1
    TrainerExecutor().Do({}, outputs(tmp_path, 2), properties())
    assert len(jobs.jobs) == launched


def test_a_failed_job_fails_the_task(jobs, served, tmp_path, monkeypatch):
    monkeypatch.setattr(HeldJobs, "_work", lambda _, job: setattr(job, "state", FAILED))
    with pytest.raises(RuntimeError, match="did not succeed"):  # TFX's own message
        TrainerExecutor().Do({}, outputs(tmp_path, 1), properties())


def test_runs_and_tasks_have_jobs_of_their_own(jobs, tmp_path):
    jobs.looks = 1
    TunerExecutor().Do({}, outputs(tmp_path, 1), properties("ai_platform_tuning_args"))
    assert [job.display_name for job in jobs.jobs.values()] == ["ser-20260101-Trainer"]
    assert job_id("gs://b/runs/1/run-2/Tuner_-77/best_hyperparameters") == "run-2-Tuner"
