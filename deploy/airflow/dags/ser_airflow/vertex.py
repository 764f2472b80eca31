"""Operators for Vertex AI: the compiled pipeline as a PipelineJob, commands of ``ser`` as CustomJobs in its image."""

import itertools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.google.cloud.hooks.gcs import GCSHook
from airflow.providers.google.cloud.hooks.vertex_ai.custom_job import CustomJobHook
from airflow.providers.google.cloud.hooks.vertex_ai.pipeline_job import PipelineJobHook
from airflow.providers.google.cloud.operators.cloud_base import GoogleCloudBaseOperator
from airflow.providers.google.cloud.operators.vertex_ai.pipeline_job import RunPipelineJobOperator
from airflow.providers.google.cloud.triggers.vertex_ai import RunPipelineJobTrigger
from airflow.sdk import BaseOperator, Param, TriggerRule
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1 import CustomJob, PipelineJob, PipelineState

from ser_airflow import exits, outcome
from ser_airflow.settings import VertexSettings

if TYPE_CHECKING:
    from airflow.sdk import Context

_NAME = "ser"
_LABELS = {"system": "ser", "started_by": "airflow"}
_MACHINE_TYPE = "e2-standard-4"
_COMMAND_TIMEOUT_SEC = 6 * 3600
_EXIT_STATUS = re.compile(r"non-zero status of (\d+)")
_FAILED = (PipelineState.PIPELINE_STATE_FAILED, PipelineState.PIPELINE_STATE_CANCELLED)


class PipelineOperator(RunPipelineJobOperator):
    """RunPipelineJobOperator that starts one run for the same inputs.

    The id of a run is ``job_id`` and the number of the attempt. A run that is under way or succeeded is waited for
    instead of starting another, so a task may be tried again, here or by another Airflow. It waits without a worker.
    """

    template_fields = (*RunPipelineJobOperator.template_fields, "job_id")

    def execute(self, context: "Context") -> None:
        """Start the run, or find it; :meth:`execute_complete` follows when it has ended."""
        client = self.hook.get_pipeline_service_client(self.region)
        first_id = self.job_id
        for attempt in itertools.count(1):
            self.job_id = f"{first_id}-{attempt}"
            try:
                job = client.get_pipeline_job(name=client.pipeline_job_path(self.project_id, self.region, self.job_id))
            except NotFound:
                super().execute(context)  # defers
                return
            if job.state not in _FAILED:
                self.log.info("%s exists already, and is waited for", job.name)
                self._wait()

    def execute_complete(self, context: "Context", event: dict[str, Any]) -> str:
        """Return the run's id.

        Raises:
            AirflowFailException: The run failed: each node had its own retries.
        """
        if event["status"] == "error":
            raise AirflowFailException(event["message"])
        return event["job"]["name"].rpartition("/")[2]

    def _wait(self) -> None:
        self.defer(
            trigger=RunPipelineJobTrigger(
                conn_id=self.gcp_conn_id,
                project_id=self.project_id,
                location=self.region,
                job_id=self.job_id,
                poll_interval=self.poll_interval,
                impersonation_chain=self.impersonation_chain,
            ),
            method_name="execute_complete",
        )


class CommandOperator(GoogleCloudBaseOperator):
    """Operator that runs a command of ``ser`` in the pipeline's image. An empty word skips it.

    Args:
        words: Command.
        vertex: Where it runs.
        poll_sec: Seconds between two requests.
        different_fails: Whether exit code 3 fails the task; "True" or "False".
    """

    template_fields = ("words", "different_fails")

    def __init__(
        self,
        *,
        words: list[str],
        vertex: VertexSettings,
        poll_sec: int,
        different_fails: str = "False",
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.words = words
        self.different_fails = different_fails
        self._vertex = vertex
        self._poll_sec = poll_sec
        self._job_id = ""

    def execute(self, context: "Context") -> int:
        """Run the command and return 0, or 3 for a difference."""
        exits.require_words(self.words)
        place = {"project_id": self._vertex.project, "region": self._vertex.region}
        hook = CustomJobHook()
        job = hook.create_custom_job(custom_job=self._custom_job(), **place)
        self._job_id = job.name.rpartition("/")[2]
        try:
            hook.wait_for_custom_job(custom_job_id=self._job_id, poll_interval=self._poll_sec, **place)
        except RuntimeError as error:  # the message of a job that failed
            return exits.checked(_exit_code(str(error)), different_fails=self.different_fails == "True")
        return exits.DONE

    def on_kill(self) -> None:
        """Cancel the job."""
        if self._job_id:
            CustomJobHook().cancel_custom_job(
                project_id=self._vertex.project, region=self._vertex.region, custom_job=self._job_id
            )

    def _custom_job(self) -> CustomJob:
        container = {"image_uri": self._vertex.image, "command": self.words}
        pool = {"machine_spec": {"machine_type": _MACHINE_TYPE}, "replica_count": 1, "container_spec": container}
        spec = {
            "worker_pool_specs": [pool],
            "service_account": self._vertex.service_account,
            "scheduling": {"timeout": {"seconds": _COMMAND_TIMEOUT_SEC}},
        }
        return CustomJob(display_name=f"{_NAME}-{self.task_id}", job_spec=spec, labels=_LABELS)


def _exit_code(message: str) -> int:
    """Return the exit code that the message of a failed job names.

    Raises:
        AirflowException: It names none.
    """
    status = _EXIT_STATUS.search(message)
    if status is None:
        raise AirflowException(message)
    return int(status[1])


class Vertex:
    """The pipeline on Vertex AI."""

    def __init__(self, vertex: VertexSettings, *, poll_sec: int) -> None:
        """Take where it runs, and the seconds between two requests for a job's state."""
        self._vertex = vertex
        self._poll_sec = poll_sec
        self.params = {
            "data": Param(vertex.data, type="string", pattern="^gs://", description="Folder of recordings."),
            "job": Param(vertex.job, type="string", pattern="^gs://", description="Compiled pipeline."),
            "address": Param(
                f"vertex://{vertex.project}/{vertex.region}/{_NAME}", type="string", description="Endpoint."
            ),
        }

    def inputs(self, params: Mapping[str, Any]) -> list[str]:
        """Return the addresses of recordings and compiled pipeline."""
        return [params["data"], params["job"]]

    def drift(self, words: list[str], *, different_fails: str) -> BaseOperator:
        """Return the operator that compares recordings."""
        return self._command("drift", words, different_fails=different_fails)

    def train(self) -> BaseOperator:
        """Return the operator that runs the pipeline."""
        return PipelineOperator(
            task_id="train",
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            project_id=self._vertex.project,
            region=self._vertex.region,
            display_name=_NAME,
            job_id=f"{_NAME}-{{{{ ti.xcom_pull(task_ids='new_recordings')['run_name'] }}}}",
            template_path="{{ params.job }}",
            pipeline_root=self._vertex.pipeline_root,
            service_account=self._vertex.service_account,
            failure_policy="fast",
            labels=_LABELS,
            poll_interval=self._poll_sec,
            deferrable=True,
        )

    def watch(self, words: list[str]) -> BaseOperator:
        """Return the operator that watches the canary."""
        return self._command("watch", words)

    def outcome(self, context: Mapping[str, Any]) -> outcome.Outcome:
        """Return the outcome of the run."""
        job = PipelineJobHook().get_pipeline_job(
            project_id=self._vertex.project,
            region=self._vertex.region,
            pipeline_job_id=context["ti"].xcom_pull(task_ids="train"),
        )
        folder = _output(job, "RunReport", "report")
        bucket, _, name = folder.removeprefix("gs://").partition("/")
        text = GCSHook().download(bucket_name=bucket, object_name=f"{name}/{outcome.SUMMARY_FILE}").decode()
        return outcome.read(text, folder=folder, examples=_output(job, "AudioExampleGen", "examples"))

    def _command(self, task_id: str, words: list[str], **arguments: Any) -> BaseOperator:
        return CommandOperator(task_id=task_id, words=words, vertex=self._vertex, poll_sec=self._poll_sec, **arguments)


def _output(job: PipelineJob, task: str, key: str) -> str:
    """Return the address of a task's only output artifact of that key.

    Raises:
        LookupError: The run has no such output.
    """
    uris = [
        artifact.uri
        for detail in job.job_detail.task_details
        if detail.task_name == task and key in detail.outputs
        for artifact in detail.outputs[key].artifacts
    ]
    if len(uris) != 1:
        raise LookupError(f"{job.name} has {len(uris)} outputs {key!r} of {task}; one is needed")
    return uris[0]
