"""Runs and schedules of the compiled pipeline on Vertex AI."""

import contextlib
import dataclasses
import datetime
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from google.api_core import exceptions, retry
from google.cloud import aiplatform_v1
from google.protobuf import field_mask_pb2, json_format

from modules.common.errors import SerError
from pipeline.config import ConfigError
from pipeline.vertex import failed_runs
from pipeline.vertex.config import VertexConfig, VertexSettings
from serving.google_cloud import client_options, cloud_errors, location

_CONSOLE = "https://console.cloud.google.com/vertex-ai/locations/{region}/pipelines/runs/{run_id}?project={project}"
_FINAL_STATES = {
    aiplatform_v1.PipelineState.PIPELINE_STATE_SUCCEEDED,
    aiplatform_v1.PipelineState.PIPELINE_STATE_FAILED,
    aiplatform_v1.PipelineState.PIPELINE_STATE_CANCELLED,
}
ACTIVE = " AND ".join(f'state!="PIPELINE_STATE_{name}"' for name in ("SUCCEEDED", "FAILED", "CANCELLED"))
"""Condition of :func:`newest_run`: the run has not ended."""

_SHORT = field_mask_pb2.FieldMask(paths=["name", "state", "create_time"])  # of a run, without its specification
_UPDATED = field_mask_pb2.FieldMask(paths=["cron", "max_concurrent_run_count", "create_pipeline_job_request"])
_DEADLINE_SEC = 60.0
_when_unavailable = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable), initial=1, maximum=10, timeout=_DEADLINE_SEC
)


class CloudError(SerError, RuntimeError):
    """Vertex AI refused a request or did not answer it."""

    code = "vertex.request_failed"


class NoCredentials(CloudError):
    """Google Cloud's default credentials are missing or unusable."""

    code = "vertex.no_credentials"


class ScheduleConflict(CloudError):
    """The configured schedule is missing, exists already or is not unique."""

    code = "vertex.schedule_conflict"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the pipeline on Vertex AI.

    Attributes:
        name: ``projects/…/locations/…/pipelineJobs/<run_id>``.
        console: Address of its page in the console.
    """

    name: str
    console: str

    @property
    def run_id(self) -> str:
        """Last part of the name."""
        return self.name.rpartition("/")[2]


def read_job(address: str, span_range: Mapping[str, str]) -> dict[str, Any]:
    """Read a compiled pipeline.

    Args:
        address: A file that ``runner_vertex.py compile`` wrote, on this machine or in a bucket.
        span_range: Run parameter that selects the span; empty for a pipeline without spans.

    Returns:
        The job, with the run parameter.

    Raises:
        ConfigError: The file cannot be read or is not a compiled pipeline, or only one of pipeline and configuration
            has spans.
    """
    import tensorflow as tf

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
            f"--job {address} has the run parameters {sorted(parameters)} and ingest.pattern needs "
            f"{sorted(span_range)}; use the configuration that it was compiled with"
        )
    if parameters:
        job["runtimeConfig"]["parameterValues"] = dict(span_range)
    return job


def submit(config: VertexConfig, job: dict[str, Any]) -> Run:
    """Start a run of a compiled job.

    Args:
        config: Configuration.
        job: Compiled pipeline.

    Returns:
        The run.

    Raises:
        CloudError: It could not be started.
    """
    vertex = config.vertex
    run_id = f"{config.name}-{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S}-{secrets.token_hex(3)}"
    # The id is unique: when it exists already, the answer to an earlier attempt was lost.
    with _cloud_errors(vertex), contextlib.suppress(exceptions.AlreadyExists):
        _pipelines(vertex).create_pipeline_job(
            parent=location(vertex.project, vertex.region),
            pipeline_job=_pipeline_job(config, job),
            pipeline_job_id=run_id,
            retry=_when_unavailable,
            timeout=_DEADLINE_SEC,
        )
    return Run(
        name=f"{location(vertex.project, vertex.region)}/pipelineJobs/{run_id}",
        console=_CONSOLE.format(region=vertex.region, run_id=run_id, project=vertex.project),
    )


def newest_run(config: VertexConfig, *conditions: str) -> aiplatform_v1.PipelineJob | None:
    """Return name, state and time of creation of the newest run of the pipeline, however it was started.

    Args:
        config: Configuration.
        *conditions: Conditions of Vertex AI's filter that it meets, such as :data:`ACTIVE`.

    Returns:
        The run; None if there is none.

    Raises:
        CloudError: Vertex AI refused the request or did not answer.
    """
    return next(_runs(config, *conditions, page_size=1), None)


def log_failed(config: VertexConfig, *, since: datetime.datetime, report: Callable[[str], None]) -> bool:
    """Log runs that failed or were cancelled to the experiment, except those that it has, however they were started.

    Args:
        config: Configuration.
        since: Time in UTC after which the runs ended.
        report: Called with a line for each run that was logged or could not be.

    Returns:
        Whether each of them could be logged.

    Raises:
        ConfigError: ``vertex.experiment`` is not set.
        CloudError: Vertex AI refused a request or did not answer.
    """
    vertex = config.vertex
    if vertex.experiment is None:
        raise ConfigError("vertex.experiment is null; set it to the experiment that failed runs are logged to")
    ended = (f'end_time>"{since:%Y-%m-%dT%H:%M:%SZ}"', 'state!="PIPELINE_STATE_SUCCEEDED"')
    client, unlogged = _pipelines(vertex), []
    for run in _runs(config, *ended):
        run_id = run.name.rpartition("/")[2]
        with _cloud_errors(vertex):
            if run.state not in _FINAL_STATES or failed_runs.is_logged(vertex, run_id):
                continue
        reason = failed_runs.log_to_experiment(vertex, _get(client, config, run.name))
        unlogged += [run_id] if reason else []
        report(f"not logged  {run_id}  {reason}" if reason else f"logged  {run_id}  {_state(run)}")
    return not unlogged


def follow(config: VertexConfig, run: Run, report: Callable[[str], None], *, poll_sec: float = 15) -> bool:
    """Wait for the end of a run and report each change of a task's state; log a failed run to the experiment.

    Args:
        config: Configuration.
        run: The run.
        report: Called with a line for each change.
        poll_sec: Seconds between two requests.

    Returns:
        Whether it succeeded.

    Raises:
        CloudError: Vertex AI refused a request or did not answer.
    """
    client, reported = _pipelines(config.vertex), set[tuple[str, str]]()
    while True:
        job = _get(client, config, run.name)
        for task in job.job_detail.task_details:
            name, state = task.task_name, task.state.name.lower()
            if (name, state) not in reported:
                reported.add((name, state))
                report(f"{name}: {state}" + (f": {task.error.message}" if task.error.message else ""))
        if job.state in _FINAL_STATES:
            succeeded = job.state == aiplatform_v1.PipelineState.PIPELINE_STATE_SUCCEEDED
            unlogged = None if succeeded else failed_runs.log_to_experiment(config.vertex, job)
            if unlogged:
                report(f"the run was not logged to the experiment {config.vertex.experiment}: {unlogged}")
            report(f"run {run.run_id}: {_state(job)} {job.error.message}".strip())
            return succeeded
        time.sleep(poll_sec)


def create_schedule(config: VertexConfig, job: dict[str, Any]) -> str:
    """Create the configured schedule.

    Args:
        config: Configuration.
        job: Compiled pipeline.

    Returns:
        Resource name of the schedule.

    Raises:
        ScheduleConflict: A schedule of that name exists.
        CloudError: Vertex AI refused a request or did not answer.
    """
    vertex = config.vertex
    existing = _named_schedules(list_schedules(config), vertex.schedule.name)
    if existing:
        raise ScheduleConflict(
            f"schedule {vertex.schedule.name!r} exists already, {existing[0].name}; `schedule update` changes it"
        )
    with _cloud_errors(vertex):
        created = _schedules(vertex).create_schedule(
            parent=location(vertex.project, vertex.region), schedule=_schedule(config, job), timeout=_DEADLINE_SEC
        )
    return created.name


def update_schedule(config: VertexConfig, job: dict[str, Any]) -> str:
    """Replace times, limit and pipeline of the configured schedule.

    Args:
        config: Configuration.
        job: Compiled pipeline.

    Returns:
        Resource name of the schedule.

    Raises:
        ScheduleConflict: The schedule does not exist or is not unique.
        CloudError: Vertex AI refused a request or did not answer.
    """
    schedule = _schedule(config, job)
    schedule.name = _find(config).name
    with _cloud_errors(config.vertex):
        _schedules(config.vertex).update_schedule(
            schedule=schedule, update_mask=_UPDATED, retry=_when_unavailable, timeout=_DEADLINE_SEC
        )
    return schedule.name


def pause_schedule(config: VertexConfig) -> str:
    """Stop starting runs; started ones continue.

    Args:
        config: Configuration.

    Returns:
        Resource name of the schedule.

    Raises:
        ScheduleConflict: The schedule does not exist or is not unique.
        CloudError: Vertex AI refused a request or did not answer.
    """
    name = _find(config).name
    with _cloud_errors(config.vertex):
        _schedules(config.vertex).pause_schedule(name=name, retry=_when_unavailable, timeout=_DEADLINE_SEC)
    return name


def resume_schedule(config: VertexConfig) -> str:
    """Start runs again from the next time on, without the missed ones.

    Args:
        config: Configuration.

    Returns:
        Resource name of the schedule.

    Raises:
        ScheduleConflict: The schedule does not exist or is not unique.
        CloudError: Vertex AI refused a request or did not answer.
    """
    name = _find(config).name
    request = aiplatform_v1.ResumeScheduleRequest(name=name, catch_up=False)
    with _cloud_errors(config.vertex):
        _schedules(config.vertex).resume_schedule(request=request, retry=_when_unavailable, timeout=_DEADLINE_SEC)
    return name


def list_schedules(config: VertexConfig) -> list[aiplatform_v1.Schedule]:
    """Return all schedules of the project and region, sorted by name.

    Args:
        config: Configuration.

    Raises:
        CloudError: Vertex AI refused the request or did not answer.
    """
    with _cloud_errors(config.vertex):
        schedules = _schedules(config.vertex).list_schedules(
            parent=location(config.vertex.project, config.vertex.region), retry=_when_unavailable, timeout=_DEADLINE_SEC
        )
        return sorted(schedules, key=lambda schedule: schedule.name)


def describe_schedule(schedule: aiplatform_v1.Schedule) -> str:
    """Return a line with state, times and limit of a schedule.

    Args:
        schedule: The schedule.
    """
    next_run = schedule.next_run_time
    coming = f"next {next_run:%Y-%m-%d %H:%M} UTC" if next_run else "no next run"
    return (
        f"{schedule.display_name}  {schedule.state.name.lower()}  {schedule.cron}  {coming}  "
        f"at most {schedule.max_concurrent_run_count} at once  {schedule.name}"
    )


def _runs(config: VertexConfig, *conditions: str, page_size: int | None = None) -> Iterator[aiplatform_v1.PipelineJob]:
    """Yield name, state and time of creation of the pipeline's runs that meet conditions, the newest first."""
    request = aiplatform_v1.ListPipelineJobsRequest(
        parent=location(config.vertex.project, config.vertex.region),
        filter=" AND ".join([f'pipeline_name="{config.name}"', *conditions]),
        order_by="create_time desc",
        page_size=page_size,
        read_mask=_SHORT,
    )
    with _cloud_errors(config.vertex):
        yield from _pipelines(config.vertex).list_pipeline_jobs(request, retry=_when_unavailable, timeout=_DEADLINE_SEC)


def _get(client: aiplatform_v1.PipelineServiceClient, config: VertexConfig, name: str) -> aiplatform_v1.PipelineJob:
    with _cloud_errors(config.vertex):
        return client.get_pipeline_job(name=name, retry=_when_unavailable, timeout=_DEADLINE_SEC)


def _state(job: aiplatform_v1.PipelineJob) -> str:
    return job.state.name.removeprefix("PIPELINE_STATE_").lower()


def _find(config: VertexConfig) -> aiplatform_v1.Schedule:
    name, schedules = config.vertex.schedule.name, list_schedules(config)
    matching = _named_schedules(schedules, name)
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(schedule.name for schedule in matching)
        raise ScheduleConflict(
            f"{len(matching)} schedules are named {name!r}: {names}; delete all but one in the console"
        )
    others = sorted(schedule.display_name for schedule in schedules)
    raise ScheduleConflict(
        f"schedule {name!r} does not exist, only {others}; `schedule create` makes it, or set vertex.schedule.name"
    )


def _named_schedules(schedules: Iterable[aiplatform_v1.Schedule], name: str) -> list[aiplatform_v1.Schedule]:
    return [schedule for schedule in schedules if schedule.display_name == name]


def _schedule(config: VertexConfig, job: dict[str, Any]) -> aiplatform_v1.Schedule:
    settings = config.vertex.schedule
    return aiplatform_v1.Schedule(
        display_name=settings.name,
        cron=settings.cron,
        max_concurrent_run_count=settings.max_concurrent_runs,
        allow_queueing=False,  # a run that is due while max_concurrent_runs are active is skipped
        create_pipeline_job_request=aiplatform_v1.CreatePipelineJobRequest(
            parent=location(config.vertex.project, config.vertex.region), pipeline_job=_pipeline_job(config, job)
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


def _pipelines(vertex: VertexSettings) -> aiplatform_v1.PipelineServiceClient:
    with _cloud_errors(vertex):
        return aiplatform_v1.PipelineServiceClient(client_options=client_options(vertex.region))


def _schedules(vertex: VertexSettings) -> aiplatform_v1.ScheduleServiceClient:
    with _cloud_errors(vertex):
        return aiplatform_v1.ScheduleServiceClient(client_options=client_options(vertex.region))


def _cloud_errors(vertex: VertexSettings) -> contextlib.AbstractContextManager[None]:
    return cloud_errors(vertex.project, vertex.region, unauthenticated=NoCredentials, failed=CloudError)
