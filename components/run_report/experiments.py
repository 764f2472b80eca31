"""Logging of a run's parameters and metrics to ML Metadata and, if configured, to Vertex AI Experiments.

Both are sinks of the same record. Logging is the last step, when a model may have been pushed already. So a failing
sink does not fail the run; log, summary and report name the failure.
"""

import re
from collections.abc import Iterable
from typing import Protocol

from absl import logging
from google.api_core import exceptions, retry
from tfx import types

from components.run_report.record import Record
from modules.common.settings import Settings
from modules.reporting import summary

_DEADLINE_SEC = 60.0
# Limit of "<experiment>-<run>": 128 characters, less the suffix that the SDK appends for a TensorBoard.
_MAX_ID_CHARACTERS = 121


class Sink(Protocol):
    """Destination of records. Writing a record again replaces it.

    Attributes:
        where: Name in reports.
    """

    where: str

    def write(self, record: Record) -> str | None:
        """Write a record.

        Args:
            record: The record.

        Returns:
            Address at which a person finds it, if there is one.
        """


class ExperimentSettings(Settings):
    """Experiment of Vertex AI; created if missing."""

    project: str
    region: str
    name: str


def log(record: Record, sinks: Iterable[Sink]) -> tuple[summary.Logged, ...]:
    """Write a record to every sink.

    Args:
        record: The record.
        sinks: The sinks.

    Returns:
        Address or error of each sink.
    """
    return tuple(_log(record, sink) for sink in sinks)


def _log(record: Record, sink: Sink) -> summary.Logged:
    try:
        return summary.Logged(where=sink.where, address=sink.write(record))
    except Exception as error:  # clients raise any kind; a model may be pushed already, so the run goes on
        logging.exception("The run was not logged to %s", sink.where)
        return summary.Logged(where=sink.where, error=f"{type(error).__name__}: {error}")


class ArtifactProperties:
    """Custom properties of the report's artifact, which the runner stores in ML Metadata."""

    where = "ML Metadata"

    def __init__(self, artifact: types.Artifact) -> None:
        self._artifact = artifact

    def write(self, record: Record) -> str:
        """Set a property for each value, named as by ``aiplatform.get_experiment_df``: ``param.…``, ``metric.…``.

        Args:
            record: The record.

        Returns:
            Address of the artifact.
        """
        values = {f"param.{name}": value for name, value in record.parameters.items()}
        values |= {f"metric.{name}": value for name, value in record.metrics.items()}
        for name, value in values.items():
            if isinstance(value, float):
                self._artifact.set_float_custom_property(name, value)
            elif isinstance(value, int):
                self._artifact.set_int_custom_property(name, int(value))
            else:
                self._artifact.set_string_custom_property(name, value)
        return self._artifact.uri


class VertexExperiments:
    """Run of an experiment, named after the pipeline's run, so that another attempt updates it."""

    where = "Vertex AI Experiments"

    def __init__(self, settings: ExperimentSettings) -> None:
        self._settings = settings

    def write(self, record: Record) -> str | None:
        """Create experiment and run if missing, and set parameters, metrics and state.

        Args:
            record: The record.

        Returns:
            Address of the experiment in the console.
        """
        return _when_unavailable(self._write)(record)

    def has(self, run: str) -> bool:
        """Return whether a run was logged to its end.

        Args:
            run: Id of the pipeline's run.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Vertex AI refused a request or did not answer.
        """
        return _when_unavailable(self._has)(run)

    def _has(self, run: str) -> bool:
        from google.cloud import aiplatform

        aiplatform.init(project=self._settings.project, location=self._settings.region)
        experiment = aiplatform.Experiment.get(self._settings.name)
        if experiment is None:
            return False
        logged = aiplatform.ExperimentRun.get(run_name(run, experiment=experiment.name), experiment=experiment)
        return logged is not None and logged.get_state() in ("COMPLETE", "FAILED")  # write sets the state last

    def _write(self, record: Record) -> str | None:
        from google.cloud import aiplatform  # takes seconds, and local runs do not need it

        # Some of the SDK's calls use the default region instead of their argument. With the experiment's name, init
        # would also create a TensorBoard.
        aiplatform.init(project=self._settings.project, location=self._settings.region)
        experiment = aiplatform.Experiment.get_or_create(self._settings.name)
        name = run_name(record.run, experiment=experiment.name)
        run = aiplatform.ExperimentRun.get(name, experiment=experiment)
        if run is None:
            run = aiplatform.ExperimentRun.create(name, experiment=experiment)
        else:
            # An earlier attempt may have ended after it created the run and before it added it to the experiment.
            child = aiplatform.Context(run.resource_name)
            aiplatform.Context(experiment.resource_name).add_context_children([child])
        run.log_params(record.parameters | ({} if record.error is None else {"error": record.error}))
        if record.metrics:
            run.log_metrics(record.metrics)
        states = aiplatform.gapic.Execution.State
        run.update_state(states.COMPLETE if record.error is None else states.FAILED)
        return experiment.dashboard_url


def run_name(run: str, *, experiment: str) -> str:
    """Return a run's id in the characters and the length that Vertex AI allows.

    Args:
        run: Id of the pipeline's run.
        experiment: Name of the experiment.
    """
    name = re.sub(r"[^a-z0-9-]+", "-", run.lower()).strip("-")
    return name[: _MAX_ID_CHARACTERS - len(experiment) - 1].rstrip("-")


def _is_transient(error: Exception) -> bool:
    """Return whether the service was unavailable; the SDK wraps some errors in a RuntimeError."""
    cause = error.__cause__ if isinstance(error, RuntimeError) else error
    return isinstance(cause, exceptions.ServiceUnavailable)


_when_unavailable = retry.Retry(predicate=_is_transient, initial=1, maximum=10, timeout=_DEADLINE_SEC)
