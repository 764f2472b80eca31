"""Vertex AI's PipelineService, ScheduleService and JobService, as far as the runner and TFX's Trainer use them.

The contract that is imitated, from Google's reference:

* ``CreatePipelineJob`` takes the id from the caller, answers ALREADY_EXISTS for one that is taken, INVALID_ARGUMENT
  for a spec that is not 2.x, for a task without its component, for a root parameter without a value.
* ``ListPipelineJobs`` takes conditions on name, state, labels and end, joined by AND; the newest run comes first. A
  run that has not ended meets no condition on its end.
* ``CreateSchedule`` gives the id; cron and a limit of concurrent runs are required; names are not unique.
* ``UpdateSchedule`` changes what the mask names. ``PauseSchedule`` of a paused one and ``ResumeSchedule`` of an
  active one are FAILED_PRECONDITION.
* ``CreateCustomJob`` starts the command of every replica of every pool, each with a ``CLUSTER_SPEC`` that names the
  others and its own role. ``GetCustomJob`` returns its state: a replica that fails fails the job. The service
  gives the id; names that the caller gives are not unique, and ``ListCustomJobs`` can be filtered by them.
* ``CancelCustomJob`` ends the processes of an active job, and does not change one that has ended.
"""

import datetime
import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.cloud import aiplatform_v1 as vertex
from google.protobuf import empty_pb2, json_format

from tests.fakes import isolated
from tests.fakes.vertex import Refused

_CRON = re.compile(r"^((CRON_)?TZ=\S+ )?(\S+ ){4}\S+$")

_ENDED = (
    vertex.PipelineState.PIPELINE_STATE_SUCCEEDED,
    vertex.PipelineState.PIPELINE_STATE_FAILED,
    vertex.PipelineState.PIPELINE_STATE_CANCELLED,
)


class Pipelines:
    """PipelineService. A run goes through the states of ``progress``, one for each request.

    Attributes:
        outputs: Addresses of outputs by task and key, which every run reports.
    """

    def __init__(self, progress: tuple[vertex.PipelineState, ...] = (vertex.PipelineState.PIPELINE_STATE_SUCCEEDED,)):
        self.jobs: dict[str, vertex.PipelineJob] = {}
        self.progress = progress
        self.outputs: dict[tuple[str, str], str] = {}
        self._reads: dict[str, int] = {}

    def create_pipeline_job(self, request: Any, _: grpc.ServicerContext) -> vertex.PipelineJob:
        name = f"{request.parent}/pipelineJobs/{request.pipeline_job_id}"
        if name in self.jobs:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"{name} exists")
        validate(request.pipeline_job)
        job = request.pipeline_job
        job.name, job.state = name, vertex.PipelineState.PIPELINE_STATE_PENDING
        job.create_time = datetime.datetime.now(datetime.UTC)
        self.jobs[name] = job
        return job

    def get_pipeline_job(self, request: Any, _: grpc.ServicerContext) -> vertex.PipelineJob:
        if request.name not in self.jobs:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"{request.name} does not exist")
        job, read = self.jobs[request.name], self._reads.get(request.name, 0)
        self._reads[request.name] = read + 1
        if job.state not in _ENDED:
            job.state = self.progress[min(read, len(self.progress) - 1)]
        task_state = job.state.name.removeprefix("PIPELINE_STATE_")
        names = json_format.MessageToDict(vertex.PipelineJob.pb(job).pipeline_spec)["root"]["dag"]["tasks"]
        job.job_detail.task_details = [
            {"task_name": name, "state": task_state, "outputs": self._outputs(name)} for name in sorted(names)
        ]
        return job

    def list_pipeline_jobs(self, request: Any, _: grpc.ServicerContext) -> vertex.ListPipelineJobsResponse:
        conditions = request.filter.split(" AND ")
        jobs = [job for job in self.jobs.values() if all(_meets(job, condition) for condition in conditions)]
        jobs.sort(key=lambda job: job.create_time, reverse=True)
        fields = {"name", "state", "create_time"}
        assert (set(request.read_mask.paths), request.order_by) == (fields, "create_time desc"), "others are not served"
        short = [{field: getattr(job, field) for field in fields} for job in jobs[: request.page_size or None]]
        return vertex.ListPipelineJobsResponse(pipeline_jobs=short)

    def _outputs(self, task: str) -> dict[str, Any]:
        return {key: {"artifacts": [{"uri": uri}]} for (name, key), uri in self.outputs.items() if name == task}


def _meets(job: vertex.PipelineJob, condition: str) -> bool:
    """Return whether a run meets a condition such as ``state!="PIPELINE_STATE_FAILED"``."""
    key, relation, value = re.fullmatch(r'([\w.]+)(!?=|>)"([^"]+)"', condition).groups()
    if relation == ">":
        assert key == "end_time", "others are not served"
        return bool(job.end_time) and job.end_time > datetime.datetime.fromisoformat(value)
    found = {f"labels.{name}": text for name, text in job.labels.items()} | {
        "state": job.state.name,
        "pipeline_name": vertex.PipelineJob.pb(job).pipeline_spec["pipelineInfo"]["name"],
    }
    return (found.get(key) == value) == (relation == "=")


def validate(job: vertex.PipelineJob) -> None:
    """Refuse jobs that Vertex AI would refuse."""
    values = json_format.MessageToDict(vertex.PipelineJob.pb(job))
    spec = values["pipelineSpec"]
    if not spec.get("schemaVersion", "").startswith("2."):
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "schemaVersion must be 2.x")
    tasks = spec["root"]["dag"]["tasks"]
    missing = [name for name, task in tasks.items() if task["componentRef"]["name"] not in spec["components"]]
    given = set(values["runtimeConfig"].get("parameterValues", {}))
    parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    unset = [name for name, definition in parameters.items() if "defaultValue" not in definition and name not in given]
    if missing or unset or given - set(parameters):
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"tasks without component {missing}, parameters without value {unset}, unknown {given - set(parameters)}",
        )


class Schedules:
    """ScheduleService."""

    def __init__(self) -> None:
        self.schedules: dict[str, vertex.Schedule] = {}
        self._ids = itertools.count(1)

    def create_schedule(self, request: Any, _: grpc.ServicerContext) -> vertex.Schedule:
        schedule = request.schedule
        _validate_schedule(schedule)
        schedule.name = f"{request.parent}/schedules/{next(self._ids)}"
        schedule.state = vertex.Schedule.State.ACTIVE
        schedule.next_run_time = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        self.schedules[schedule.name] = schedule
        return schedule

    def list_schedules(self, request: Any, _: grpc.ServicerContext) -> vertex.ListSchedulesResponse:
        schedules = [value for name, value in self.schedules.items() if name.startswith(f"{request.parent}/")]
        return vertex.ListSchedulesResponse(schedules=schedules)

    def update_schedule(self, request: Any, _: grpc.ServicerContext) -> vertex.Schedule:
        schedule = self._get(request.schedule.name)
        for path in request.update_mask.paths:
            setattr(schedule, path, getattr(request.schedule, path))
        _validate_schedule(schedule)
        return schedule

    def pause_schedule(self, request: Any, _: grpc.ServicerContext) -> Any:
        return self._turn(request.name, vertex.Schedule.State.ACTIVE, vertex.Schedule.State.PAUSED)

    def resume_schedule(self, request: Any, _: grpc.ServicerContext) -> Any:
        return self._turn(request.name, vertex.Schedule.State.PAUSED, vertex.Schedule.State.ACTIVE)

    def _turn(self, name: str, before: vertex.Schedule.State, after: vertex.Schedule.State) -> Any:
        schedule = self._get(name)
        if schedule.state != before:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"{name} is {schedule.state.name}")
        schedule.state = after
        return empty_pb2.Empty()

    def _get(self, name: str) -> vertex.Schedule:
        if name not in self.schedules:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"{name} does not exist")
        return self.schedules[name]


def _validate_schedule(schedule: vertex.Schedule) -> None:
    if not _CRON.match(schedule.cron) or schedule.max_concurrent_run_count < 1:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "cron and max_concurrent_run_count are required")
    validate(schedule.create_pipeline_job_request.pipeline_job)


class CustomJobs:
    """JobService. A job's commands run in processes of this machine instead of its image, in their own network."""

    def __init__(self, folder: Path, environ: Mapping[str, str], sockets: Mapping[int, str] | None = None) -> None:
        """Take the folder of logs, the environment of the image, and the servers that the jobs may connect to.

        Args:
            sockets: See :func:`tests.fakes.isolated.command`.
        """
        self.jobs: dict[str, vertex.CustomJob] = {}
        self._folder = folder
        self._environ = dict(environ)
        self._sockets = sockets
        self._ids = itertools.count(1)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def create_custom_job(self, request: Any, _: grpc.ServicerContext) -> vertex.CustomJob:
        job = request.custom_job
        pools = job.job_spec.worker_pool_specs
        if not pools or not pools[0].machine_spec.machine_type or not pools[0].container_spec.image_uri:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "worker_pool_specs needs a machine_type and an image_uri")
        job.name = f"{request.parent}/customJobs/{next(self._ids)}"
        job.state = vertex.JobState.JOB_STATE_RUNNING
        self.jobs[job.name] = job
        threading.Thread(target=self._work, args=(job,), daemon=True).start()
        return job

    def get_custom_job(self, request: Any, _: grpc.ServicerContext) -> vertex.CustomJob:
        if request.name not in self.jobs:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"{request.name} does not exist")
        return self.jobs[request.name]

    def list_custom_jobs(self, request: Any, _: grpc.ServicerContext) -> vertex.ListCustomJobsResponse:
        (display_name,) = re.fullmatch(r'display_name="([^"]+)"', request.filter).groups()
        here = [job for name, job in self.jobs.items() if name.startswith(f"{request.parent}/")]
        return vertex.ListCustomJobsResponse(custom_jobs=[job for job in here if job.display_name == display_name])

    def cancel_custom_job(self, request: Any, _: grpc.ServicerContext) -> empty_pb2.Empty:
        job = self.jobs[request.name]
        if job.state == vertex.JobState.JOB_STATE_RUNNING:
            job.state = vertex.JobState.JOB_STATE_CANCELLED
            if request.name in self._processes:
                self._processes[request.name].terminate()
        return empty_pb2.Empty()

    def log(self, name: str) -> Path:
        """Return the output of a job."""
        return self._folder / f"custom_job_{name.rpartition('/')[2]}.log"

    def _work(self, job: vertex.CustomJob) -> None:
        command = isolated.command(list(_replicas(job)), self.log(job.name).with_suffix(".json"), self._sockets)
        with self.log(job.name).open("w") as log:
            process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log, cwd=self._folder)
            self._processes[job.name] = process
            status = process.wait()
        if job.state == vertex.JobState.JOB_STATE_CANCELLED:
            return
        if status:
            # Google's wording, as public logs of failed jobs have it.
            job.error.message = (
                f"The replica workerpool0-0 exited with a non-zero status of {status}. "
                f"To find out more about why your job exited please check the logs: {self.log(job.name)}"
            )
            job.state = vertex.JobState.JOB_STATE_FAILED
        else:
            job.state = vertex.JobState.JOB_STATE_SUCCEEDED


def _replicas(job: vertex.CustomJob) -> Iterator[dict[str, Any]]:
    """Yield command and ``CLUSTER_SPEC`` of each replica; the only replica of a job is called chief."""
    pools = job.job_spec.worker_pool_specs
    ports = itertools.count(2222)
    names = [f"workerpool{index}" for index in range(len(pools))] if len(pools) > 1 else ["chief"]
    cluster = {
        name: [f"127.0.0.1:{next(ports)}" for _ in range(pool.replica_count)]
        for name, pool in zip(names, pools, strict=True)
    }
    for name, pool in zip(names, pools, strict=True):
        container = pool.container_spec
        command = [sys.executable if part == "python" else part for part in [*container.command, *container.args]]
        for index in range(pool.replica_count):
            spec = {"cluster": cluster, "environment": "cloud", "task": {"type": name, "index": index}}
            yield {"command": command, "environ": {"CLUSTER_SPEC": json.dumps(spec)}}
