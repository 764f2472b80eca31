"""Executors of the VertexTrainer and the VertexTuner: start a CustomJob, wait for it, cancel it on SIGTERM."""

import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any
from unittest import mock

from google.api_core import retry
from google.cloud import aiplatform_v1 as vertex
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.extensions.google_cloud_ai_platform import constants, training_clients
from tfx.extensions.google_cloud_ai_platform.trainer import executor as vertex_trainer
from tfx.extensions.google_cloud_ai_platform.tuner import executor as vertex_tuner
from tfx.types import standard_component_specs
from tfx.utils import io_utils, json_utils

from components.artifacts import Artifacts, Properties

_ACTIVE = {
    vertex.JobState.JOB_STATE_QUEUED,
    vertex.JobState.JOB_STATE_PENDING,
    vertex.JobState.JOB_STATE_RUNNING,
}
_REUSED = _ACTIVE | {vertex.JobState.JOB_STATE_SUCCEEDED}
_CALL_SEC = 60.0
_TERMINATED = 128 + signal.SIGTERM


class JobClient(training_clients.VertexJobClient):
    """TFX's client, with a search for a job of the same name before it launches one.

    Attributes:
        reused: The job that an earlier attempt launched; None without one.
    """

    reused: vertex.CustomJob | None = None
    _display_name = ""

    def launch_job(self, project: str, training_job: dict[str, Any]) -> None:
        """Reuse the job of this name that is active or succeeded; launch one if there is none.

        Args:
            project: Google Cloud project.
            training_job: The CustomJob.
        """
        self._parent = f"projects/{project}/locations/{self._region}"
        self._display_name = training_job["display_name"]
        self.reused = next(self._jobs(_REUSED), None)
        if self.reused is None:
            super().launch_job(project, training_job)
        else:
            self._job_name = self.reused.name

    def cancel(self) -> None:
        """Cancel every active job of this name, including one whose launch was interrupted."""
        for job in self._jobs(_ACTIVE) if self._display_name else ():
            self._client.cancel_custom_job(name=job.name, retry=retry.Retry(), timeout=_CALL_SEC)

    def _jobs(self, states: set[int]) -> Iterator[vertex.CustomJob]:
        request = vertex.ListCustomJobsRequest(parent=self._parent, filter=f'display_name="{self._display_name}"')
        jobs = self._client.list_custom_jobs(request, retry=retry.Retry(), timeout=_CALL_SEC)
        return (job for job in jobs if job.state in states)


class _OneJob(base_executor.BaseExecutor):
    """Mixin for TFX's executors of CustomJobs that names the job after the run and the task."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Run the job, or wait for the one that an earlier attempt of this task launched and copy its outputs.

        Args:
            input_dict: Those of TFX's executor.
            output_dict: The same.
            exec_properties: The same.

        Raises:
            RuntimeError: The job failed or was cancelled.
        """
        config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        config[vertex_trainer.JOB_ID_KEY] = job_id(next(iter(output_dict.values()))[0].uri)
        named = exec_properties | {standard_component_specs.CUSTOM_CONFIG_KEY: json_utils.dumps(config)}
        client = JobClient(config[constants.VERTEX_REGION_KEY])
        with mock.patch.object(training_clients, "get_job_client", return_value=client), _cancelled_on_sigterm(client):
            super().Do(input_dict, output_dict, named)
        if client.reused is not None:
            _copy_outputs(client.reused, output_dict)


class TrainerExecutor(_OneJob, vertex_trainer.GenericExecutor):
    """TFX's executor of the Trainer on Vertex AI, with one job per run."""


class TunerExecutor(_OneJob, vertex_tuner.Executor):
    """TFX's executor of the Tuner on Vertex AI, with one job per run."""


def job_id(output_uri: str) -> str:
    """Return a name that is the same for each attempt of a task of a run.

    Args:
        output_uri: Artifact of the task, on Vertex AI ``<root>/<project>/<run>/<task>_<id>/<output>``.
    """
    run, task = output_uri.rstrip("/").split("/")[-3:-1]
    return f"{run}-{task.rpartition('_')[0]}"


@contextlib.contextmanager
def _cancelled_on_sigterm(client: JobClient) -> Iterator[None]:
    """Cancel the job on SIGTERM, which Vertex AI sends to the containers of a cancelled run."""

    def stop(*_: object) -> None:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit:
        client.cancel()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _copy_outputs(job: vertex.CustomJob, output_dict: Artifacts) -> None:
    """Copy the outputs of an earlier attempt's job to those of this attempt."""
    command = list(job.job_spec.worker_pool_specs[0].container_spec.command)
    earlier = json.loads(command[command.index("--outputs") + 1])
    for key, (artifact,) in output_dict.items():
        written = types.Artifact.from_json_dict(earlier[key][0]).uri
        if written != artifact.uri and fileio.exists(written):
            io_utils.copy_dir(written, artifact.uri)
