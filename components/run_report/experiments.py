"""Logging of a run's parameters and metrics: with its report in ML Metadata, and to a Vertex AI experiment if named.

Both are sinks of the same record. Logging comes last, when a model may be pushed already: a sink that fails does not
fail the run; the error is in the log, the summary and the report.
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
# Of an experiment's name, a hyphen and a run's name together: 128, less what the SDK appends for a TensorBoard.
_MAX_ID_CHARACTERS = 121


class Sink(Protocol):
    """Destination of records. Writing a record again replaces it.

    Attributes:
        where: What it is called.
    """

    where: str

    def write(self, record: Record) -> str | None:
        """Write a record and return where to find it."""


class ExperimentSettings(Settings):
    """An experiment of Vertex AI, made if there is none."""

    project: str
    region: str
    name: str


def log(record: Record, sinks: Iterable[Sink]) -> tuple[summary.Logged, ...]:
    """Write a record to every sink and return the result of each."""
    return tuple(_log(record, sink) for sink in sinks)


def _log(record: Record, sink: Sink) -> summary.Logged:
    try:
        return summary.Logged(where=sink.where, address=sink.write(record))
    except Exception as error:  # a model may be pushed by now: no failure of a log may turn its run into a failed one
        logging.exception("The run was not logged to %s", sink.where)
        return summary.Logged(where=sink.where, error=f"{type(error).__name__}: {error}")


class ArtifactProperties:
    """The properties of the report's artifact, which whoever runs the pipeline keeps in its metadata store."""

    where = "ML Metadata"

    def __init__(self, artifact: types.Artifact) -> None:
        self._artifact = artifact

    def write(self, record: Record) -> str:
        """Set a property per value, named as in ``aiplatform.get_experiment_df``: ``param.…``, ``metric.…``."""
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
    """A run of an experiment, named after the pipeline's run: trying again updates it."""

    where = "Vertex AI Experiments"

    def __init__(self, settings: ExperimentSettings) -> None:
        self._settings = settings

    def write(self, record: Record) -> str | None:
        """Create experiment and run if they are missing, and log the record."""
        when_unavailable = retry.Retry(predicate=_is_transient, initial=1, maximum=10, timeout=_DEADLINE_SEC)
        return when_unavailable(self._write)(record)

    def _write(self, record: Record) -> str | None:
        from google.cloud import aiplatform  # takes seconds, which a local run need not wait for

        # Some of the SDK's calls go to the default region whatever they are given. Naming the experiment here would
        # create a TensorBoard that is not needed.
        aiplatform.init(project=self._settings.project, location=self._settings.region)
        experiment = aiplatform.Experiment.get_or_create(self._settings.name)
        name = run_name(record.run, experiment=experiment.name)
        run = aiplatform.ExperimentRun.get(name, experiment=experiment)
        if run is None:
            run = aiplatform.ExperimentRun.create(name, experiment=experiment)
        else:
            # An earlier attempt may have ended between making the run and putting it into the experiment.
            child = aiplatform.Context(run.resource_name)
            aiplatform.Context(experiment.resource_name).add_context_children([child])
        run.log_params(record.parameters)
        run.log_metrics(record.metrics)
        run.update_state(aiplatform.gapic.Execution.State.COMPLETE)
        return experiment.dashboard_url


def run_name(run: str, *, experiment: str) -> str:
    """``run`` in the letters and the length that Vertex AI allows."""
    name = re.sub(r"[^a-z0-9-]+", "-", run.lower()).strip("-")
    return name[: _MAX_ID_CHARACTERS - len(experiment) - 1].rstrip("-")


def _is_transient(error: Exception) -> bool:
    """Return True for an unavailable service, also where the SDK wraps its error."""
    cause = error.__cause__ if isinstance(error, RuntimeError) else error
    return isinstance(cause, exceptions.ServiceUnavailable)
