"""Runs and schedules against a fake Vertex AI that unmodified clients reach over TLS."""

import datetime
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
from tests.pipeline.vertex.terraform_files import local_values
from tests.pipeline.vertex.test_permissions import RPCS

CONFIG = "tests/golden/vertex.yaml"
RUNNING, FAILED, CANCELLED, SUCCEEDED = (
    vertex.PipelineState.PIPELINE_STATE_RUNNING,
    vertex.PipelineState.PIPELINE_STATE_FAILED,
    vertex.PipelineState.PIPELINE_STATE_CANCELLED,
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


@pytest.fixture
def metadata(cloud, served) -> Metadata:
    """An empty experiment."""
    fake = Metadata()
    served.reset({"pipeline_service": cloud.pipelines, "metadata_service": fake})
    return fake


def logged(config, run: vertex_jobs.Run) -> tuple[str, dict]:
    """Return state and parameters of a run in the experiment."""
    where = {"project": config.vertex.project, "location": config.vertex.region}
    found = aiplatform.ExperimentRun(run.run_id, experiment="ser", **where)
    return found.get_state(), found.get_params()


def epochs(job) -> int:
    """Return the epochs in the configuration that a compiled job has."""
    given = job["pipelineSpec"]["root"]["dag"]["tasks"]["RunReport"]["inputs"]["parameters"]
    return json.loads(given["config"]["runtimeValue"]["constant"])["training"]["epochs"]


def test_a_failed_run_is_logged_to_the_experiment(cloud, metadata, golden_config, golden_job):
    cloud.pipelines.progress = (RUNNING, FAILED)
    run, lines = vertex_jobs.submit(golden_config, golden_job), []
    assert not vertex_jobs.follow(golden_config, run, lines.append, poll_sec=0)
    assert not [line for line in lines if "not logged" in line]
    state, parameters = logged(golden_config, run)
    assert state == aiplatform.gapic.Execution.State.FAILED.name
    assert parameters["training.epochs"] == epochs(golden_job)
    assert parameters["error"]
    assert "failed_tasks" in parameters
    assert metadata.children[metadata.context("ser").name] == [metadata.context(f"ser-{run.run_id}").name]


def end(cloud, run: vertex_jobs.Run, state: vertex.PipelineState, *, days_ago: float = 0) -> None:
    """End a run that a schedule started: nothing follows it."""
    job = cloud.pipelines.jobs[run.name]
    job.state, job.error.message = state, f"{state.name} for a reason"
    job.end_time = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago)


def log_failed(tmp_path, *words: str) -> int:
    return runner_vertex.main(["log-failed", "--config", CONFIG, "--log", str(tmp_path / "log"), *words])


def test_failed_and_cancelled_runs_of_a_schedule_are_logged_once(
    cloud, metadata, golden_config, golden_job, tmp_path, capsys
):
    runs = [vertex_jobs.submit(golden_config, golden_job) for _ in range(5)]
    for run, state, days_ago in zip(runs, (FAILED, CANCELLED, SUCCEEDED, FAILED), (0, 6, 0, 8), strict=False):
        end(cloud, run, state, days_ago=days_ago)
    failed, cancelled, *_, earlier, running = runs
    assert log_failed(tmp_path) == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert lines == sorted([f"logged  {failed.run_id}  failed", f"logged  {cancelled.run_id}  cancelled"])
    for run in (failed, cancelled):
        state, parameters = logged(golden_config, run)
        assert state == "FAILED"
        assert parameters["training.epochs"] == epochs(golden_job)
        assert parameters["error"].startswith(f"{cloud.pipelines.jobs[run.name].state.name} for a reason")
    assert log_failed(tmp_path) == 0
    assert capsys.readouterr().out == ""
    assert log_failed(tmp_path, "--days", "9") == 0
    assert capsys.readouterr().out == f"logged  {earlier.run_id}  failed\n"
    assert not [name for name in metadata.contexts if name.endswith(running.run_id)]


def test_the_configuration_of_the_run_is_logged_if_it_has_one(
    cloud, metadata, golden_config, golden_job, tmp_path, capsys
):
    own, without = (vertex_jobs.submit(golden_config, golden_job) for _ in range(2))
    end(cloud, own, FAILED)
    end(cloud, without, FAILED)
    spec = vertex.PipelineJob.pb(cloud.pipelines.jobs[without.name]).pipeline_spec
    del spec["root"]["dag"]["tasks"]["RunReport"]
    assert log_failed(tmp_path, "--set", "training.epochs=3") == 0
    assert logged(golden_config, own)[1]["training.epochs"] == epochs(golden_job) != 3
    assert set(logged(golden_config, without)[1]) == {"failed_tasks", "error"}


@pytest.mark.parametrize("step", ["create_context", "update_context"])
def test_a_run_that_could_not_be_logged_is_logged_by_the_next_call(
    cloud, served, metadata, golden_config, golden_job, tmp_path, capsys, step
):
    run = vertex_jobs.submit(golden_config, golden_job)
    end(cloud, run, FAILED)
    served.fail_next(step, grpc.StatusCode.PERMISSION_DENIED)
    assert log_failed(tmp_path) == 1
    assert capsys.readouterr().out.startswith(f"not logged  {run.run_id}  ")
    assert log_failed(tmp_path) == 0
    assert capsys.readouterr().out == f"logged  {run.run_id}  failed\n"
    assert logged(golden_config, run)[0] == "FAILED"


def test_failed_runs_need_an_experiment(cloud, tmp_path, capsys):
    assert log_failed(tmp_path, "--set", "vertex.experiment=null") == 2
    assert "vertex.experiment" in capsys.readouterr().err


def test_the_account_that_logs_failed_runs_has_the_permissions_for_its_calls_and_no_others(
    cloud, served, metadata, golden_config, golden_job, tmp_path
):
    """With a new and with an existing experiment."""
    end(cloud, vertex_jobs.submit(golden_config, golden_job), FAILED)
    served.calls.clear()
    assert [log_failed(tmp_path) for _ in range(2)] == [0, 0]
    needed = {permission for name, _ in served.calls for permission in RPCS[name]}
    assert needed == set(local_values()["jobs"]["failures"]["permissions"])


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
