"""Executor of the RunReport."""

import json
import os
import tempfile

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.artifacts import Artifacts, Properties
from components.audio_example_gen import ingest_summary
from components.run_report import experiments, gather
from components.run_report.record import record
from modules.evaluation.predictions_table import PREDICTIONS_FILE
from modules.reporting import summary, write

CONFIG_KEY = "config"
EXPERIMENT_KEY = "experiment"
EXAMPLES_KEY = "examples"
MODEL_RUN_KEY = "model_run"
EVALUATION_KEY = "evaluation"
BLESSING_KEY = "blessing"
INFRA_BLESSING_KEY = "infra_blessing"
PUSHED_MODEL_KEY = "pushed_model"
TUNER_RESULTS_KEY = "tuner_results"
DRIFT_KEY = "drift"
REPORT_KEY = "report"


class Executor(base_executor.BaseExecutor):
    """Reader of the run's artifacts and writer of summary and report."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Write ``summary.json``, ``report.html`` and ``predictions.csv``, and log parameters and metrics.

        Args:
            input_dict: Outputs of the other components.
            output_dict: The report.
            exec_properties: Configuration, and experiment if one is set.
        """
        config = json.loads(exec_properties[CONFIG_KEY])
        examples_uri = artifact_utils.get_single_uri(input_dict[EXAMPLES_KEY])
        evaluation_uri = artifact_utils.get_single_uri(input_dict[EVALUATION_KEY])
        blessing_uri = artifact_utils.get_single_uri(input_dict[BLESSING_KEY])
        model_run_uri = artifact_utils.get_single_uri(input_dict[MODEL_RUN_KEY])
        verdict = gather.verdict(blessing_uri, artifact_utils.get_single_uri(input_dict[INFRA_BLESSING_KEY]))
        pushed = gather.push(artifact_utils.get_single_instance(input_dict[PUSHED_MODEL_KEY]), verdict)
        tuner_results = input_dict.get(TUNER_RESULTS_KEY)
        drift = input_dict.get(DRIFT_KEY)
        report = summary.RunSummary(
            run=gather.run(config),
            protocol=ingest_summary.protocol(examples_uri),
            data=ingest_summary.data(examples_uri),
            training=gather.training(model_run_uri),
            tuning=gather.tuning(artifact_utils.get_single_uri(tuner_results), config) if tuner_results else None,
            evaluation=gather.evaluation(evaluation_uri),
            verdict=verdict,
            baseline=gather.baseline(evaluation_uri),
            drift=gather.drift(artifact_utils.get_single_uri(drift)) if drift else (),
            pushed=pushed,
            model_card=gather.model_card(blessing_uri, pushed),
            training_logs=model_run_uri,
        )
        artifact = artifact_utils.get_single_instance(output_dict[REPORT_KEY])
        logged = record(report, config=config, run=self._run_id(artifact.uri), report=artifact.uri)
        sinks = _sinks(artifact, exec_properties.get(EXPERIMENT_KEY))
        _write(report.model_copy(update={"logged": experiments.log(logged, sinks)}), artifact.uri)
        logging.info(outcome_line(report))
        predictions = os.path.join(evaluation_uri, PREDICTIONS_FILE)
        io_utils.copy_file(predictions, os.path.join(artifact.uri, PREDICTIONS_FILE), overwrite=True)

    def _run_id(self, report_uri: str) -> str:
        """Return the run's id; on Vertex AI from the address, ``<root>/<project>/<run>/<task>_<number>/report``."""
        run_id = self._context.pipeline_run_id if self._context else None
        return run_id or report_uri.rstrip("/").split("/")[-3]


def outcome_line(report: summary.RunSummary) -> str:
    """Return the line of the log that the alerts of deploy/terraform look for.

    Args:
        report: Summary of the run.
    """
    verdict = "none" if report.verdict is None else "blessed" if report.verdict.blessed else "rejected"
    drift = "yes" if any(drift.drifted for drift in report.drift) else "no"
    pushed = "yes" if report.pushed and report.pushed.version else "no"
    return f"ser-run-outcome verdict={verdict} drift={drift} pushed={pushed}"


def _sinks(artifact: types.Artifact, experiment: str | None) -> list[experiments.Sink]:
    sinks: list[experiments.Sink] = [experiments.ArtifactProperties(artifact)]
    if experiment:
        sinks.append(experiments.VertexExperiments(experiments.ExperimentSettings.from_json(experiment)))
    return sinks


def _write(report: summary.RunSummary, folder: str) -> None:
    """Write to a local folder and copy, since ``folder`` may be on any file system."""
    with tempfile.TemporaryDirectory() as local:
        for path in write.write(report, local):
            io_utils.copy_file(str(path), os.path.join(folder, path.name), overwrite=True)
