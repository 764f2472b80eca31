"""Runs that new recordings start: Google's Pub/Sub client with the emulator and a stand-in, and a fake Vertex AI."""

import datetime
import itertools

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as vertex
from google.cloud import pubsub_v1

import runner_vertex
from pipeline.config import ConfigError
from pipeline.vertex import jobs, new_recordings
from tests.fakes import pubsub
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_runs import Pipelines

CONFIG = "tests/golden/vertex.yaml"
PROJECT = "projects/example-project"
MINUTE = datetime.timedelta(minutes=1)
QUIET = 31 * MINUTE
RECORDING = "recordings/Actor_01/a.wav"
RUNNING, FAILED, SUCCEEDED = (
    vertex.PipelineState.PIPELINE_STATE_RUNNING,
    vertex.PipelineState.PIPELINE_STATE_FAILED,
    vertex.PipelineState.PIPELINE_STATE_SUCCEEDED,
)
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with FakeVertex(tmp_path_factory.mktemp("vertex"), {}).in_environment() as fake:
        yield fake


@pytest.fixture(scope="module", params=["stand-in", "emulator"])
def host(request, tmp_path_factory):
    place = pubsub.stand_in() if request.param == "stand-in" else pubsub.emulator(tmp_path_factory.mktemp("pubsub"))
    with place as address:
        yield address


class Cloud:
    """Notifications in a subscription, and runs."""

    def __init__(self, config, job) -> None:
        self.pipelines, self.lines, self.job = Pipelines(), [], job
        self.subscription = f"ser-recordings-{next(numbers)}"
        self.config = config
        self.set(subscription=self.subscription)
        self._publisher, self._subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        self._topic, self._name = (f"{PROJECT}/{kind}/{self.subscription}" for kind in ("topics", "subscriptions"))
        self._publisher.create_topic(name=self._topic)
        self._subscriber.create_subscription(name=self._name, topic=self._topic)

    def set(self, **values) -> None:
        """Change settings of the section ``vertex.new_recordings``."""
        section = self.config.vertex.new_recordings.model_copy(update=values)
        vertex_section = self.config.vertex.model_copy(update={"new_recordings": section})
        self.config = self.config.model_copy(update={"vertex": vertex_section})

    def publish(self, name: str = RECORDING, **changed: str) -> None:
        """Publish a notification with the attributes of Cloud Storage, without a payload."""
        attributes = {
            "notificationConfig": "projects/_/buckets/example-data/notificationConfigs/1",
            "eventType": "OBJECT_FINALIZE",
            "eventTime": "2026-11-29T12:00:00.000000Z",
            "payloadFormat": "NONE",
            "bucketId": "example-data",
            "objectId": name,
            "objectGeneration": "1",
        }
        self.publish_message(**{**attributes, **changed})

    def publish_message(self, **attributes: str) -> None:
        self._publisher.publish(self._topic, b"{", **attributes).result(timeout=30)

    def call(self, after: datetime.timedelta = QUIET, *, now: datetime.datetime | None = None, make_job=None) -> str:
        """Call some time after now, or at a time; return the id of the run, or the line that was reported."""
        now = now or datetime.datetime.now(datetime.UTC) + after
        make_job = make_job or (lambda: self.job)
        run = new_recordings.start_when_new(self.config, make_job, self.lines.append, now=now)
        return run.run_id if run else self.lines[-1]

    def waiting(self) -> int:
        """Return the number of messages that were not acknowledged."""
        try:
            pulled = self._subscriber.pull(subscription=self._name, max_messages=1000, timeout=1).received_messages
        except exceptions.DeadlineExceeded:
            return 0
        ids = [received.ack_id for received in pulled]
        if ids:
            self._subscriber.modify_ack_deadline(subscription=self._name, ack_ids=ids, ack_deadline_seconds=0)
        return len(ids)

    @property
    def runs(self) -> list[str]:
        return [name.rpartition("/")[2] for name in self.pipelines.jobs]

    def end(self, state=SUCCEEDED) -> None:
        for job in self.pipelines.jobs.values():
            job.state = state


@pytest.fixture
def cloud(served, host, golden_config, golden_job, monkeypatch) -> Cloud:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    monkeypatch.setattr(new_recordings, "_EMPTY_AFTER_SEC", 1.0)
    made = Cloud(golden_config, golden_job)
    served.reset({"pipeline_service": made.pipelines})
    return made


def test_without_notifications_nothing_starts_and_vertex_ai_is_not_called(cloud, served):
    assert cloud.call() == "nothing new  gs://example-data/recordings"
    assert served.calls == []


def test_while_recordings_arrive_no_run_starts_and_none_is_lost(cloud):
    cloud.publish()
    cloud.publish("recordings/Actor_01/b.wav")
    line = cloud.call(10 * MINUTE)
    assert line.startswith("waiting  2 new recordings, the newest 10 min ago; a run starts after 30 min without")
    assert cloud.runs == []
    assert cloud.waiting() == 2


def test_when_no_more_arrive_one_run_starts(cloud, golden_config):
    for name in ("a", "b", "c"):
        cloud.publish(f"recordings/Actor_01/{name}.wav")
    run = cloud.call()
    assert cloud.runs == [run]
    (job,) = cloud.pipelines.jobs.values()
    assert job.labels["started_by"] == "new_recordings"
    assert job.labels["system"] == "ser"
    assert job.service_account == golden_config.vertex.service_account
    cloud.end()
    assert cloud.call().startswith("nothing new")
    assert cloud.waiting() == 0
    assert cloud.runs == [run]


def test_recordings_that_keep_arriving_start_a_run_at_last(cloud):
    cloud.publish()
    between = datetime.datetime.now(datetime.UTC)
    cloud.publish("recordings/Actor_01/b.wav")
    cloud.set(quiet_min=40, max_wait_min=41)
    assert cloud.call(now=between + 40 * MINUTE).startswith("waiting  2 new recordings")
    cloud.set(quiet_min=40, max_wait_min=40)
    assert cloud.call(now=between + 40 * MINUTE) == cloud.runs[0]


def test_recordings_after_a_run_start_another(cloud):
    cloud.publish()
    first = cloud.call()
    cloud.end(FAILED)
    cloud.publish()  # the same recording, replaced
    second = cloud.call()
    assert cloud.runs == [first, second]


def test_a_run_in_progress_is_waited_for_however_it_was_started(cloud):
    other = jobs.submit(cloud.config, cloud.job).run_id
    cloud.publish()
    cloud.end(RUNNING)
    assert cloud.call() == f"waiting  1 new recordings, run {other} is in progress"
    assert cloud.runs == [other]
    cloud.end()
    own = cloud.call()
    assert cloud.runs == [other, own]


def test_recordings_that_a_run_of_the_dag_has_read_start_no_second_run(cloud):
    cloud.publish()
    by_airflow = jobs.submit(cloud.config, {**cloud.job, "labels": {"started_by": "airflow"}}).run_id
    cloud.end()
    assert cloud.call() == f"nothing new  run {by_airflow} was started after the newest recording"
    assert cloud.waiting() == 0
    cloud.publish()
    assert cloud.call() == cloud.runs[1]


def test_a_crash_before_the_acknowledgement_starts_no_second_run(cloud, monkeypatch):
    cloud.publish()

    def fail(*_, **__):
        raise exceptions.ServiceUnavailable("injected")

    with monkeypatch.context() as broken:
        broken.setattr(pubsub_v1.SubscriberClient, "acknowledge", fail)
        with pytest.raises(jobs.CloudError, match="Pub/Sub"):
            cloud.call()
    assert cloud.waiting() == 1
    cloud.end(FAILED)
    assert cloud.call() == f"nothing new  run {cloud.runs[0]} was started after the newest recording"
    assert cloud.waiting() == 0
    assert len(cloud.runs) == 1


@pytest.mark.parametrize("cause", ["compilation", "submission"])
def test_a_failure_before_the_run_loses_nothing(cloud, served, cause):
    cloud.publish()

    def make_job():
        if cause == "compilation":
            raise ConfigError("injected")
        served.fail_next("create_pipeline_job", grpc.StatusCode.PERMISSION_DENIED)
        return cloud.job

    with pytest.raises((ConfigError, jobs.CloudError), match="injected"):
        cloud.call(make_job=make_job)
    assert cloud.runs == []
    assert cloud.call() == cloud.runs[0]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        (RECORDING, {"eventType": "OBJECT_DELETE"}),
        (RECORDING, {"bucketId": "example-models"}),
        ("recordings-old/a.wav", {}),
        ("compiled/latest.json", {}),
        ("recordings/", {}),
        ("recordings/.arriving-span", {}),
    ],
)
def test_notifications_about_anything_else_are_acknowledged(cloud, name, changed):
    cloud.publish(name, **changed)
    assert cloud.call().startswith("nothing new")
    assert cloud.waiting() == 0


def test_a_message_that_is_no_notification_is_reported_once(cloud):
    cloud.publish_message(eventType="OBJECT_FINALIZE")
    cloud.publish()
    assert cloud.call() == cloud.runs[0]
    (line,) = cloud.lines
    assert line.endswith("no bucketId, objectId")
    assert cloud.waiting() == 0


def test_more_notifications_than_a_request_holds_are_one_run(cloud, monkeypatch):
    monkeypatch.setattr(new_recordings, "_MAX_MESSAGES", 2)
    for number in range(5):
        cloud.publish(f"recordings/{number}.wav")
    assert cloud.call(MINUTE).startswith("waiting  5 new recordings")
    assert cloud.call() == cloud.runs[0]
    assert cloud.waiting() == 0


def command(cloud, tmp_path, *settings: str) -> int:
    settings = (f"vertex.new_recordings.subscription={cloud.subscription}", *settings)
    options = [option for setting in settings for option in ("--set", setting)]
    options += ["--config", CONFIG, "--job", "tests/golden/vertex_pipeline.json", "--log", str(tmp_path / "log")]
    return runner_vertex.main(["submit", "--when-new", *options])


def test_the_command_waits_and_then_starts_the_run(cloud, tmp_path, capsys):
    cloud.publish()
    assert command(cloud, tmp_path) == 0
    assert capsys.readouterr().out.startswith("waiting  1 new recordings, the newest 0 min ago")
    assert command(cloud, tmp_path, "vertex.new_recordings.quiet_min=0") == 0
    assert f"run      {cloud.runs[0]}\n" in capsys.readouterr().out


def test_a_missing_subscription_and_a_local_folder_are_refused(cloud, tmp_path, capsys):
    assert command(cloud, tmp_path, "vertex.data=/recordings") == 2
    assert "vertex.data is /recordings" in capsys.readouterr().err
    assert command(cloud, tmp_path, "vertex.new_recordings.subscription=other") == 1
    assert "Pub/Sub (europe-west4, project example-project) failed: NOT_FOUND" in capsys.readouterr().err
