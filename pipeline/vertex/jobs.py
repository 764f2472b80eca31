"""Runs and schedules of the compiled pipeline on Vertex AI."""

import contextlib
import dataclasses
import datetime
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from google.api_core import exceptions, retry
from google.auth import exceptions as auth_exceptions
from google.cloud import aiplatform_v1
from google.protobuf import field_mask_pb2, json_format

from pipeline.config import ConfigError
from pipeline.vertex.config import VertexConfig, VertexSettings

_CONSOLE = "https://console.cloud.google.com/vertex-ai/locations/{region}/pipelines/runs/{run_id}?project={project}"
_FINAL_STATES = {
    aiplatform_v1.PipelineState.PIPELINE_STATE_SUCCEEDED,
    aiplatform_v1.PipelineState.PIPELINE_STATE_FAILED,
    aiplatform_v1.PipelineState.PIPELINE_STATE_CANCELLED,
}
_UPDATED = field_mask_pb2.FieldMask(paths=["cron", "max_concurrent_run_count", "create_pipeline_job_request"])
_DEADLINE_SEC = 60.0
_when_unavailable = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable), initial=1, maximum=10, timeout=_DEADLINE_SEC
)


class CloudError(RuntimeError):
    """Vertex AI refused or could not be asked; the message says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the pipeline on Vertex AI.

    Attributes:
        name: ``projects/…/locations/…/pipelineJobs/<run_id>``.
        console: Where to watch it.
    """

    name: str
    console: str

    @property
    def run_id(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]


def read_job(address: str, span_range: Mapping[str, str]) -> dict[str, Any]:
    """Read a compiled pipeline.

    Args:
        address: A file that ``runner_vertex.py compile`` wrote, on this machine or in a bucket.
        span_range: Run parameter that selects the span; empty for a pipeline without spans.

    Raises:
        ConfigError: The file cannot be read or is not a compiled pipeline, or only one of pipeline and configuration
            has spans.
    """
    try:
        with tf.io.gfile.GFile(address) as file:
            job = json.loads(file.read())
    except (tf.errors.OpError, ValueError) as error:
        raise ConfigError(f"--job {address}: {error}; give a file that `runner_vertex.py compile` wrote") from error
    if not isinstance(job, dict) or not {"pipelineSpec", "runtimeConfig"} <= set(job):
        raise ConfigError(f"--job {address} is not a compiled pipeline; `runner_vertex.py compile` writes one")
    parameters = job["runtimeConfig"].get("parameterValues", {})
    if set(parameters) != set(span_range):
        raise ConfigError(
            f"--job {address} has the run parameters {sorted(parameters)} and ingest.pattern asks for "
            f"{sorted(span_range)}; use the configuration that it was compiled with"
        )
    if parameters:
        job["runtimeConfig"]["parameterValues"] = dict(span_range)
    return job


def submit(config: VertexConfig, job: dict[str, Any]) -> Run:
    """Starts a run of a compiled job.

    Raises:
        CloudError: It could not be started.
    """
    vertex = config.vertex
    run_id = f"{config.name}-{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S}-{secrets.token_hex(3)}"
    with _explained(vertex), contextlib.suppress(exceptions.AlreadyExists):  # an answer got lost; the id is ours alone
        _pipelines(vertex).create_pipeline_job(
            parent=_parent(vertex),
            pipeline_job=_pipeline_job(config, job),
            pipeline_job_id=run_id,
            retry=_when_unavailable,
            timeout=_DEADLINE_SEC,
        )
    return Run(
        name=f"{_parent(vertex)}/pipelineJobs/{run_id}",
        console=_CONSOLE.format(region=vertex.region, run_id=run_id, project=vertex.project),
    )


def follow(config: VertexConfig, run: Run, say: Callable[[str], None], *, poll_sec: float = 15) -> bool:
    """Waits for the end of a run and says what becomes of each task.

    Returns:
        Whether it succeeded.

    Raises:
        CloudError: Vertex AI cannot be asked.
    """
    client, said = _pipelines(config.vertex), set[tuple[str, str]]()
    while True:
        with _explained(config.vertex):
            job = client.get_pipeline_job(name=run.name, retry=_when_unavailable, timeout=_DEADLINE_SEC)
        for task in job.job_detail.task_details:
            line = task.task_name, task.state.name.lower()
            if line not in said:
                said.add(line)
                say(f"{line[0]}: {line[1]}" + (f": {task.error.message}" if task.error.message else ""))
        if job.state in _FINAL_STATES:
            outcome = job.state.name.removeprefix("PIPELINE_STATE_").lower()
            say(f"run {run.run_id}: {outcome} {job.error.message}".strip())
            return job.state == aiplatform_v1.PipelineState.PIPELINE_STATE_SUCCEEDED
        time.sleep(poll_sec)


def create_schedule(config: VertexConfig, job: dict[str, Any]) -> str:
    """Creates the schedule that the configuration names and returns its resource name.

    Raises:
        CloudError: There is one of that name, or Vertex AI refused.
    """
    vertex = config.vertex
    existing = [found for found in list_schedules(config) if found.display_name == vertex.schedule.name]
    if existing:
        raise CloudError(
            f"there is a schedule {vertex.schedule.name!r}, {existing[0].name}; `schedule update` changes it"
        )
    with _explained(vertex):
        created = _schedules(vertex).create_schedule(
            parent=_parent(vertex), schedule=_schedule(config, job), timeout=_DEADLINE_SEC
        )
    return created.name


def update_schedule(config: VertexConfig, job: dict[str, Any]) -> str:
    """Gives the schedule the configuration's times and limit, and this compilation of the pipeline.

    Raises:
        CloudError: There is none, or Vertex AI refused.
    """
    schedule = _schedule(config, job)
    schedule.name = _find(config).name
    with _explained(config.vertex):
        _schedules(config.vertex).update_schedule(
            schedule=schedule, update_mask=_UPDATED, retry=_when_unavailable, timeout=_DEADLINE_SEC
        )
    return schedule.name


def pause_schedule(config: VertexConfig) -> str:
    """Stops new runs; what runs goes on.

    Raises:
        CloudError: There is no such schedule, or Vertex AI refused.
    """
    name = _find(config).name
    with _explained(config.vertex):
        _schedules(config.vertex).pause_schedule(name=name, retry=_when_unavailable, timeout=_DEADLINE_SEC)
    return name


def resume_schedule(config: VertexConfig) -> str:
    """Lets runs start again, from the next time on: those that were missed stay missed.

    Raises:
        CloudError: There is no such schedule, or Vertex AI refused.
    """
    name = _find(config).name
    request = aiplatform_v1.ResumeScheduleRequest(name=name, catch_up=False)
    with _explained(config.vertex):
        _schedules(config.vertex).resume_schedule(request=request, retry=_when_unavailable, timeout=_DEADLINE_SEC)
    return name


def list_schedules(config: VertexConfig) -> list[aiplatform_v1.Schedule]:
    """All schedules of the project and region.

    Raises:
        CloudError: Vertex AI cannot be asked.
    """
    with _explained(config.vertex):
        found = _schedules(config.vertex).list_schedules(
            parent=_parent(config.vertex), retry=_when_unavailable, timeout=_DEADLINE_SEC
        )
        return sorted(found, key=lambda schedule: schedule.name)


def describe_schedule(schedule: aiplatform_v1.Schedule) -> str:
    """One line for people."""
    next_run = schedule.next_run_time
    coming = f"next {next_run:%Y-%m-%d %H:%M} UTC" if next_run else "no next run"
    return (
        f"{schedule.display_name}  {schedule.state.name.lower()}  {schedule.cron}  {coming}  "
        f"at most {schedule.max_concurrent_run_count} at once  {schedule.name}"
    )


def _find(config: VertexConfig) -> aiplatform_v1.Schedule:
    name, found = config.vertex.schedule.name, list_schedules(config)
    matching = [schedule for schedule in found if schedule.display_name == name]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(schedule.name for schedule in matching)
        raise CloudError(f"{len(matching)} schedules are named {name!r}: {names}; delete all but one in the console")
    others = sorted(schedule.display_name for schedule in found)
    raise CloudError(
        f"there is no schedule {name!r}, only {others}; `schedule create` makes it, or set vertex.schedule.name"
    )


def _schedule(config: VertexConfig, job: dict[str, Any]) -> aiplatform_v1.Schedule:
    settings = config.vertex.schedule
    return aiplatform_v1.Schedule(
        display_name=settings.name,
        cron=settings.cron,
        max_concurrent_run_count=settings.max_concurrent_runs,
        allow_queueing=False,  # of a run that takes longer than its turn, the next is left out
        create_pipeline_job_request=aiplatform_v1.CreatePipelineJobRequest(
            parent=_parent(config.vertex), pipeline_job=_pipeline_job(config, job)
        ),
    )


def _pipeline_job(config: VertexConfig, job: dict[str, Any]) -> aiplatform_v1.PipelineJob:
    vertex = config.vertex
    values = {
        **job,
        "labels": {**job.get("labels", {}), **vertex.labels},
        "serviceAccount": vertex.service_account,
        "runtimeConfig": {**job["runtimeConfig"], "failurePolicy": "PIPELINE_FAILURE_POLICY_FAIL_FAST"},
    }
    if vertex.network:
        values["network"] = vertex.network
    message = aiplatform_v1.PipelineJob()
    json_format.ParseDict(values, aiplatform_v1.PipelineJob.pb(message))
    return message


def _parent(vertex: VertexSettings) -> str:
    return f"projects/{vertex.project}/locations/{vertex.region}"


def _options(vertex: VertexSettings) -> dict[str, str]:
    return {"api_endpoint": f"{vertex.region}-aiplatform.googleapis.com"}


def _pipelines(vertex: VertexSettings) -> aiplatform_v1.PipelineServiceClient:
    with _explained(vertex):
        return aiplatform_v1.PipelineServiceClient(client_options=_options(vertex))


def _schedules(vertex: VertexSettings) -> aiplatform_v1.ScheduleServiceClient:
    with _explained(vertex):
        return aiplatform_v1.ScheduleServiceClient(client_options=_options(vertex))


@contextlib.contextmanager
def _explained(vertex: VertexSettings) -> Iterator[None]:
    try:
        yield
    except exceptions.AlreadyExists:
        raise
    except auth_exceptions.GoogleAuthError as error:
        raise CloudError(f"no credentials: {error}\nRun `gcloud auth application-default login` first") from error
    except exceptions.GoogleAPICallError as error:
        raise CloudError(
            f"Vertex AI ({vertex.region}, project {vertex.project}) says {error.grpc_status_code or error.code}: "
            f"{error.message}\ndocs/production.md has a table of such failures"
        ) from error
    except exceptions.RetryError as error:
        raise CloudError(f"Vertex AI in {vertex.region} does not answer: {error}\nTry again later") from error
