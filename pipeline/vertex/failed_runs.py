"""Failed and cancelled runs in Vertex AI Experiments, where the RunReport logs the finished ones."""

from google.cloud import aiplatform_v1

from pipeline.vertex.config import VertexConfig

_ERROR_CHARACTERS = 2000
_FAILED = aiplatform_v1.PipelineTaskDetail.State.FAILED


def log_to_experiment(config: VertexConfig, run_id: str, job: aiplatform_v1.PipelineJob) -> str | None:
    """Log configuration, failed tasks and error of a run.

    Args:
        config: Configuration of the run.
        run_id: Id of the run.
        job: The run as it ended.

    Returns:
        Reason why it could not be logged; None if it was, or if no experiment is configured.
    """
    vertex = config.vertex
    if vertex.experiment is None:
        return None
    from components.run_report import experiments
    from components.run_report.record import Record, flat

    failed = [task for task in job.job_detail.task_details if task.state == _FAILED]
    messages = [job.error.message, *(f"{task.task_name}: {task.error.message}" for task in failed)]
    record = Record(
        run=run_id,
        parameters=dict(flat(config.to_dict())) | {"failed_tasks": ", ".join(task.task_name for task in failed)},
        metrics={},
        error="\n".join(filter(None, messages))[:_ERROR_CHARACTERS] or job.state.name,
    )
    settings = experiments.ExperimentSettings(project=vertex.project, region=vertex.region, name=vertex.experiment)
    (logged,) = experiments.log(record, [experiments.VertexExperiments(settings)])
    return logged.error
