"""Failed and cancelled runs in Vertex AI Experiments, where the RunReport logs the finished ones."""

import json
from typing import TYPE_CHECKING, Any

from google.cloud import aiplatform_v1
from google.protobuf import json_format

from pipeline.vertex.config import VertexSettings

if TYPE_CHECKING:
    from components.run_report.experiments import VertexExperiments

_ERROR_CHARACTERS = 2000
_FAILED = aiplatform_v1.PipelineTaskDetail.State.FAILED


def is_logged(vertex: VertexSettings, run_id: str) -> bool:
    """Return whether the experiment has a run.

    Args:
        vertex: Project, region and experiment.
        run_id: Id of the run.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Vertex AI refused a request or did not answer.
    """
    return _experiment(vertex).has(run_id)


def log_to_experiment(vertex: VertexSettings, job: aiplatform_v1.PipelineJob) -> str | None:
    """Log configuration, failed tasks and error of a run.

    Args:
        vertex: Project, region and experiment.
        job: The run as it ended.

    Returns:
        Reason why it could not be logged; None if it was, or if no experiment is configured.
    """
    if vertex.experiment is None:
        return None
    from components.run_report import experiments
    from components.run_report.record import Record, flat

    failed = [task for task in job.job_detail.task_details if task.state == _FAILED]
    messages = [job.error.message, *(f"{task.task_name}: {task.error.message}" for task in failed)]
    record = Record(
        run=job.name.rpartition("/")[2],
        parameters=dict(flat(_configuration(job))) | {"failed_tasks": ", ".join(task.task_name for task in failed)},
        metrics={},
        error="\n".join(filter(None, messages))[:_ERROR_CHARACTERS] or job.state.name,
    )
    (logged,) = experiments.log(record, [_experiment(vertex)])
    return logged.error


def _configuration(job: aiplatform_v1.PipelineJob) -> dict[str, Any]:
    """Return the configuration that a run was compiled with, a parameter of its RunReport; empty without one."""
    values = json_format.MessageToDict(aiplatform_v1.PipelineJob.pb(job).pipeline_spec)
    for key in ("root", "dag", "tasks", "RunReport", "inputs", "parameters", "config", "runtimeValue"):
        values = values.get(key, {})
    return json.loads(values.get("constant", "{}"))


def _experiment(vertex: VertexSettings) -> "VertexExperiments":
    from components.run_report import experiments

    return experiments.VertexExperiments(
        experiments.ExperimentSettings(project=vertex.project, region=vertex.region, name=vertex.experiment)
    )
