"""Runs that new recordings start: Cloud Storage's notifications, from a Pub/Sub subscription.

A notification is acknowledged when a run has been started after it, so that neither a crash nor a refused request loses
one. Such a run has a label: after a crash between submission and acknowledgement the next call finds it, and starts no
second one.
"""

import contextlib
import dataclasses
import datetime
import posixpath
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from google.api_core import exceptions
from google.cloud.pubsub_v1 import SubscriberClient

from components.audio_example_gen.corpora import is_hidden
from modules.common import addresses
from pipeline.config import ConfigError
from pipeline.vertex import jobs
from pipeline.vertex.config import NewRecordingsSettings, VertexConfig
from serving.google_cloud import cloud_errors

LABEL = ("started_by", "new_recordings")
"""Label of the runs that were started here."""

_STARTERS = (LABEL[1], "airflow")  # deploy/airflow repeats its own runs that failed
_WRITTEN = "OBJECT_FINALIZE"
_ATTRIBUTES = ("eventType", "bucketId", "objectId")
_MAX_MESSAGES = 1000
_EMPTY_AFTER_SEC = 10.0
_PULLED_FOR_SEC = 240.0  # below the subscription's deadline, after which messages come again
_TIMEOUT_SEC = 60.0


@dataclasses.dataclass(frozen=True)
class _Notification:
    """A new recording.

    Attributes:
        ack_id: Id of the message, until it is acknowledged or released.
        published: Time of the notification.
        name: Name of the object.
    """

    ack_id: str
    published: datetime.datetime
    name: str


def start_when_new(
    config: VertexConfig,
    make_job: Callable[[], dict[str, Any]],
    report: Callable[[str], None],
    *,
    now: datetime.datetime | None = None,
) -> jobs.Run | None:
    """Start a run when recordings have arrived, no more arrive, and no run of the pipeline is in progress.

    Args:
        config: Configuration.
        make_job: Function that returns the compiled pipeline; called only when a run starts.
        report: Called with a line about what was found.
        now: Time to compare the notifications with; by default the present.

    Returns:
        The run; None if none was started.

    Raises:
        ConfigError: ``vertex.data`` is not in a bucket.
        CloudError: Pub/Sub or Vertex AI refused a request or did not answer.
    """
    if not addresses.in_bucket(config.vertex.data):
        raise ConfigError(f"--when-new: vertex.data is {config.vertex.data}; set it to a folder of a bucket, gs://…")
    with _Inbox(config, report) as inbox:
        new = inbox.receive()
        if not new:
            report(f"nothing new  {config.vertex.data}")
            return None
        latest = _latest_run(config)
        if latest:
            inbox.acknowledge(notice for notice in new if notice.published <= latest.create_time)
            new = [notice for notice in new if notice.published > latest.create_time]
        if not new:
            report(f"nothing new  run {_run_id(latest)} was started after the newest recording")
            return None
        reason = _reason_to_wait(config, new, now or datetime.datetime.now(datetime.UTC))
        if reason:
            report(reason)
            return None
        job = make_job()
        run = jobs.submit(config, {**job, "labels": {**job.get("labels", {}), LABEL[0]: LABEL[1]}})
        inbox.acknowledge(new)
        return run


def _latest_run(config: VertexConfig) -> Any:
    """Return the newest run that new recordings started, here or by Airflow; None without one."""
    runs = (jobs.newest_run(config, f'labels.{LABEL[0]}="{starter}"') for starter in _STARTERS)
    return max(filter(None, runs), key=lambda run: run.create_time, default=None)


def _reason_to_wait(config: VertexConfig, new: Sequence[_Notification], now: datetime.datetime) -> str | None:
    count = len({notice.name for notice in new})
    reason = _arriving(new, config.vertex.new_recordings, now)
    if reason:
        return f"waiting  {count} new recordings, {reason}"
    active = jobs.newest_run(config, jobs.ACTIVE)
    return f"waiting  {count} new recordings, run {_run_id(active)} is in progress" if active else None


def _arriving(new: Sequence[_Notification], settings: NewRecordingsSettings, now: datetime.datetime) -> str | None:
    """Return why more recordings are expected; None where the latest is old enough, or the first too old."""
    quiet_min, waited_min = ((now - pick(n.published for n in new)).total_seconds() / 60 for pick in (max, min))
    if quiet_min >= settings.quiet_min or waited_min >= settings.max_wait_min:
        return None
    return (
        f"the newest {quiet_min:.0f} min ago; a run starts after {settings.quiet_min:g} min without another, or "
        f"{settings.max_wait_min:g} min after the first"
    )


def _run_id(run: Any) -> str:
    return run.name.rpartition("/")[2]


class _Inbox:
    """The subscription; a context manager that releases what was received and not acknowledged."""

    def __init__(self, config: VertexConfig, report: Callable[[str], None]) -> None:
        self._vertex = config.vertex
        self._report = report
        self._held: set[str] = set()

    def __enter__(self) -> Self:
        with self._errors():
            self._client = SubscriberClient()
        self._name = self._client.subscription_path(self._vertex.project, self._vertex.new_recordings.subscription)
        return self

    def __exit__(self, *_: object) -> None:
        # What cannot be released comes again after the subscription's deadline.
        with self._client, contextlib.suppress(exceptions.GoogleAPIError):
            for ids in _batches(self._held):
                self._client.modify_ack_deadline(
                    subscription=self._name, ack_ids=ids, ack_deadline_seconds=0, timeout=_TIMEOUT_SEC
                )

    def receive(self) -> list[_Notification]:
        """Return the notifications of recordings, and acknowledge all other messages."""
        new, others, started = [], [], time.monotonic()
        while time.monotonic() - started < _PULLED_FOR_SEC:
            messages = self._pull()
            if not messages:
                break
            for received in messages:
                name = self._recording(received.message)
                if name is None:
                    others.append(received.ack_id)
                else:
                    new.append(_Notification(received.ack_id, received.message.publish_time, name))
        self._acknowledge(others)
        return new

    def acknowledge(self, notifications: Iterable[_Notification]) -> None:
        """Acknowledge notifications: they do not come again."""
        self._acknowledge([notice.ack_id for notice in notifications])

    def _pull(self) -> Sequence[Any]:
        with self._errors():
            try:
                messages = self._client.pull(
                    subscription=self._name, max_messages=_MAX_MESSAGES, timeout=_EMPTY_AFTER_SEC
                ).received_messages
            except exceptions.DeadlineExceeded:  # an empty subscription does not answer
                return ()
        self._held.update(received.ack_id for received in messages)
        return messages

    def _recording(self, message: Any) -> str | None:
        """Return the name of the recording; None for a message about anything else."""
        missing = [name for name in _ATTRIBUTES if name not in message.attributes]
        if missing:
            lacking = ", ".join(missing)
            self._report(f"ignored  message {message.message_id}, which is no notification of recordings: no {lacking}")
            return None
        event, bucket, name = (message.attributes[key] for key in _ATTRIBUTES)
        folder = posixpath.join(self._vertex.data, "")
        address = f"gs://{bucket}/{name}"
        below = address.removeprefix(folder)
        if event != _WRITTEN or below == address or address.endswith("/") or is_hidden(below):
            return None
        return name

    def _acknowledge(self, ack_ids: Iterable[str]) -> None:
        for ids in _batches(ack_ids):
            with self._errors():
                self._client.acknowledge(subscription=self._name, ack_ids=ids, timeout=_TIMEOUT_SEC)
            self._held.difference_update(ids)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return cloud_errors(
            self._vertex.project,
            self._vertex.region,
            service="Pub/Sub",
            unauthenticated=jobs.NoCredentials,
            failed=jobs.CloudError,
        )


def _batches(ack_ids: Iterable[str]) -> Iterable[list[str]]:
    """Yield parts that a request can hold: 512 KiB at most."""
    ids = list(ack_ids)
    return (ids[start : start + _MAX_MESSAGES] for start in range(0, len(ids), _MAX_MESSAGES))
