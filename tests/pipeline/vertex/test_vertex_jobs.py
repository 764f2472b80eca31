"""Runs and schedules against a fake Vertex AI that unmodified clients reach over TLS."""

import json

import grpc
import pytest
import tensorflow as tf
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import json_format

import runner_vertex
from pipeline.vertex import jobs as vertex_jobs
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_metadata import Metadata
from tests.fakes.vertex_runs import Pipelines, Schedules

CONFIG = "tests/golden/vertex.yaml"
RUNNING, FAILED, SUCCEEDED = (
    vertex.PipelineState.PIPELINE_STATE_RUNNING,
    vertex.PipelineState.PIPELINE_STATE_FAILED,
    vertex.PipelineState.PIPELINE_STATE_SUCCEEDED,
)


class Cloud:
    """The fake Vertex AI with its state."""

    def __init__(self, fake: FakeVertex, pipelines: Pipelines, schedules: Schedules) -> None:
        self.fake, self.pipelines, self.schedules = fake, pipelines, schedules


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for all tests: gRPC reads the certificate authority once in a process."""
    with FakeVertex(tmp_path_factory.mktemp("vertex"), {}).in_environment() as fake:
        yield fake


@pytest.fixture
def cloud(served) -> Cloud:
    fakes = Cloud(served, Pipelines(), Schedules())
    served.reset({"pipeline_service": fakes.pipelines, "schedule_service": fakes.schedules})
    return fakes


def test_a_run_is_started_as_configured(cloud, golden_config, golden_job):
    run = vertex_jobs.submit(golden_config, golden_job)
    job = cloud.pipelines.jobs[run.name]
    assert run.name.startswith("projects/example-project/locations/europe-west4/pipelineJobs/ser-")
    assert run.console == (
        f"https://console.cloud.google.com/vertex-ai/locations/europe-west4/pipelines/runs/{run.run_id}"
        "?project=example-project"
    )
    assert job.service_account == golden_config.vertex.service_account
    assert job.labels["system"] == "ser"
    assert job.runtime_config.gcs_output_directory == golden_config.vertex.pipeline_root
    assert job.runtime_config.failure_policy == vertex.PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_FAST
    assert not job.network
    arrived = json_format.MessageToDict(vertex.PipelineJob.pb(job))
    assert arrived["pipelineSpec"] == golden_job["pipelineSpec"]
    assert arrived["runtimeConfig"]["parameterValues"] == {"span_range": ""}


def test_a_run_is_in_the_configured_network(cloud, golden_config, golden_job):
    section = golden_config.vertex.model_copy(update={"network": "projects/123/global/networks/ser"})
    run = vertex_jobs.submit(golden_config.model_copy(update={"vertex": section}), golden_job)
    assert cloud.pipelines.jobs[run.name].network == "projects/123/global/networks/ser"


def test_a_request_is_repeated_while_unavailable(cloud, golden_config, golden_job):
    cloud.fake.fail_next("create_pipeline_job", grpc.StatusCode.UNAVAILABLE)
    run = vertex_jobs.submit(golden_config, golden_job)
    assert list(cloud.pipelines.jobs) == [run.name]
    assert len(cloud.fake.called("create_pipeline_job")) == 2


def test_a_lost_answer_does_not_start_a_second_run(cloud, golden_config, golden_job):
    cloud.fake.lose_next("create_pipeline_job")
    run = vertex_jobs.submit(golden_config, golden_job)
    assert list(cloud.pipelines.jobs) == [run.name]
    assert len(cloud.fake.called("create_pipeline_job")) == 2


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_refusal_has_its_reason_and_the_page(cloud, golden_config, golden_job, code):
    cloud.fake.fail_next("create_pipeline_job", code, "because of this")
    with pytest.raises(vertex_jobs.CloudError) as error:
        vertex_jobs.submit(golden_config, golden_job)
    assert "because of this" in str(error.value)  # the message of the service
    assert "docs/guides/production/operate.md" in str(error.value)
    assert len(cloud.fake.called("create_pipeline_job")) == 1


@pytest.mark.parametrize(("end", "succeeded"), [(SUCCEEDED, True), (FAILED, False)])
def test_a_run_is_followed_to_its_end(cloud, golden_config, golden_job, end, succeeded):
    cloud.pipelines.progress = (RUNNING, RUNNING, end)
    run, lines = vertex_jobs.submit(golden_config, golden_job), []
    assert vertex_jobs.follow(golden_config, run, lines.append, poll_sec=0) is succeeded
    assert lines.count("Trainer: running") == 1
    assert lines[-1] == f"run {run.run_id}: {'succeeded' if succeeded else 'failed'}"


def test_a_failed_run_is_logged_to_the_experiment(cloud, served, golden_config, golden_job):
    metadata = Metadata()
    served.reset({"pipeline_service": cloud.pipelines, "metadata_service": metadata})
    cloud.pipelines.progress = (RUNNING, FAILED)
    run, lines = vertex_jobs.submit(golden_config, golden_job), []
    assert not vertex_jobs.follow(golden_config, run, lines.append, poll_sec=0)
    assert not [line for line in lines if "not logged" in line]
    where = {"project": golden_config.vertex.project, "location": golden_config.vertex.region}
    logged = aiplatform.ExperimentRun(run.run_id, experiment="ser", **where)
    assert logged.get_state() == aiplatform.gapic.Execution.State.FAILED.name
    parameters = logged.get_params()
    assert parameters["training.epochs"] == golden_config.training.epochs
    assert parameters["error"]
    assert "failed_tasks" in parameters
    assert metadata.children[metadata.context("ser").name] == [metadata.context(f"ser-{run.run_id}").name]


def test_a_schedule_is_created_updated_paused_and_resumed(cloud, golden_config, golden_job, capsys):
    name = vertex_jobs.create_schedule(golden_config, golden_job)
    created = cloud.schedules.schedules[name]
    assert (created.cron, created.max_concurrent_run_count, created.allow_queueing) == (
        "TZ=Etc/UTC 0 2 * * *",
        1,
        False,
    )
    job = created.create_pipeline_job_request.pipeline_job
    assert job.service_account == golden_config.vertex.service_account

    weekly = golden_config.vertex.schedule.model_copy(update={"cron": "0 3 * * 1", "max_concurrent_runs": 2})
    section = golden_config.vertex.model_copy(update={"schedule": weekly, "service_account": "other@example.com"})
    changed = golden_config.model_copy(update={"vertex": section})
    assert vertex_jobs.update_schedule(changed, golden_job) == name
    updated = cloud.schedules.schedules[name]
    assert (updated.cron, updated.max_concurrent_run_count) == ("0 3 * * 1", 2)
    assert updated.create_pipeline_job_request.pipeline_job.service_account == "other@example.com"

    assert vertex_jobs.pause_schedule(golden_config) == name
    assert updated.state == vertex.Schedule.State.PAUSED
    assert vertex_jobs.resume_schedule(golden_config) == name
    (listed,) = vertex_jobs.list_schedules(golden_config)
    assert vertex_jobs.describe_schedule(listed).startswith("ser  active  0 3 * * 1  next ")


def test_a_schedule_is_not_created_twice(cloud, golden_config, golden_job):
    name = vertex_jobs.create_schedule(golden_config, golden_job)
    with pytest.raises(vertex_jobs.ScheduleConflict) as error:
        vertex_jobs.create_schedule(golden_config, golden_job)
    assert name in str(error.value)
    assert len(cloud.schedules.schedules) == 1


def test_a_missing_or_ambiguous_schedule_is_refused(cloud, golden_config, golden_job):
    with pytest.raises(vertex_jobs.ScheduleConflict):
        vertex_jobs.pause_schedule(golden_config)
    name = vertex_jobs.create_schedule(golden_config, golden_job)
    cloud.schedules.schedules[f"{name}0"] = vertex.Schedule(cloud.schedules.schedules[name], name=f"{name}0")
    with pytest.raises(vertex_jobs.ScheduleConflict) as error:
        vertex_jobs.pause_schedule(golden_config)
    assert f"{name}, {name}0" in str(error.value)


def test_missing_credentials_are_reported(cloud, golden_config, golden_job, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(vertex_jobs.NoCredentials):
        vertex_jobs.submit(golden_config, golden_job)


@pytest.mark.parametrize(("end", "status"), [(SUCCEEDED, 0), (FAILED, 1)])
def test_the_runner_submits_and_waits(cloud, capfd, tmp_path, end, status):
    cloud.pipelines.progress = (RUNNING, end)
    command = ["submit", "--config", CONFIG, "--span", "4", "--wait", "--poll-sec", "0", "--log", str(tmp_path / "log")]
    assert runner_vertex.main(command) == status
    (job,) = cloud.pipelines.jobs.values()
    shown = capfd.readouterr()
    assert job.name in shown.out
    assert "https://console.cloud.google.com/vertex-ai/" in shown.out
    assert f"Trainer: {'failed' if status else 'succeeded'}" in shown.err
    assert '"start_span_number": 4' in dict(job.runtime_config.parameter_values)["span_range"]


def test_the_runner_manages_schedules(cloud, capsys, tmp_path):
    def run(*command: str) -> int:
        return runner_vertex.main(["schedule", *command, "--config", CONFIG, "--log", str(tmp_path / "log")])

    assert [run("create"), run("update"), run("pause"), run("list"), run("resume")] == [0] * 5
    assert "paused  TZ=Etc/UTC 0 2 * * *" in capsys.readouterr().out
    cloud.schedules.schedules.clear()
    assert run("pause") == 1
    assert "'ser'" in capsys.readouterr().err


@pytest.fixture
def compiled(golden_job, tmp_path):
    """A compiled pipeline that differs from the checkout's, on two file systems of TensorFlow."""
    text = json.dumps(golden_job | {"displayName": "of the build"})
    places = [str(tmp_path / "latest.json"), f"ram://{tmp_path}/latest.json"]
    for place in places:
        with tf.io.gfile.GFile(place, "w") as file:
            file.write(text)
    return places


def test_a_compiled_file_is_submitted_and_scheduled(cloud, tmp_path, compiled, golden_job):
    def run(*command: str) -> int:
        return runner_vertex.main([*command, "--config", CONFIG, "--log", str(tmp_path / "log")])

    file, bucket = compiled
    assert run("submit", "--job", bucket, "--span", "4") == 0
    (run_job,) = cloud.pipelines.jobs.values()
    assert run_job.display_name == "of the build"
    assert '"start_span_number": 4' in dict(run_job.runtime_config.parameter_values)["span_range"]
    assert run("schedule", "create") == 0
    (schedule,) = cloud.schedules.schedules.values()
    assert schedule.create_pipeline_job_request.pipeline_job.display_name == golden_job["displayName"]
    assert run("schedule", "update", "--job", file) == 0
    scheduled = schedule.create_pipeline_job_request.pipeline_job
    assert scheduled.display_name == "of the build"
    assert scheduled.service_account == "ser-pipeline@example-project.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "No such file"),
        ("{", "char 1"),
        ("{}", "runner_vertex.py compile"),
        ('{"pipelineSpec": {}, "runtimeConfig": {}}', "['span_range']"),
    ],
)
def test_an_unusable_compiled_file_is_refused(cloud, capsys, tmp_path, text, cause):
    file = tmp_path / "latest.json"
    if text is not None:
        file.write_text(text)
    command = ["submit", "--job", str(file), "--config", CONFIG, "--log", str(tmp_path / "log")]
    assert runner_vertex.main(command) == 2
    printed = capsys.readouterr().err
    assert str(file) in printed
    assert cause in printed
    assert not cloud.pipelines.jobs
