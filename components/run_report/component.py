"""Component that writes the summary and the report of a run."""

import json
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.run_report import executor
from components.run_report.experiments import ExperimentSettings


class RunReportSpec(types.ComponentSpec):
    """Interface of :class:`RunReport`."""

    PARAMETERS: ClassVar[dict[str, ExecutionParameter]] = {
        executor.CONFIG_KEY: ExecutionParameter(type=str),
        executor.EXPERIMENT_KEY: ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {
        executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        executor.MODEL_RUN_KEY: ChannelParameter(type=standard_artifacts.ModelRun),
        executor.EVALUATION_KEY: ChannelParameter(type=standard_artifacts.ModelEvaluation),
        executor.BLESSING_KEY: ChannelParameter(type=standard_artifacts.ModelBlessing),
        executor.INFRA_BLESSING_KEY: ChannelParameter(type=standard_artifacts.InfraBlessing),
        executor.PUSHED_MODEL_KEY: ChannelParameter(type=standard_artifacts.PushedModel),
        executor.TUNER_RESULTS_KEY: ChannelParameter(type=standard_artifacts.TunerResults, optional=True),
        executor.DRIFT_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies, optional=True),
    }
    OUTPUTS: ClassVar[dict[str, ChannelParameter]] = {
        # Vertex AI accepts TFX's artifact types alone; this one is the closest.
        executor.REPORT_KEY: ChannelParameter(type=standard_artifacts.ModelEvaluation),
    }


class RunReport(base_component.BaseComponent):
    """Writer of ``summary.json`` and ``report.html``: data, training, evaluation with intervals, verdict, push.

    Evaluation and verdict are those of the GatedEvaluator, with the check of the ServingValidator.
    """

    SPEC_CLASS = RunReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        config: dict[str, Any],
        examples: types.BaseChannel,
        model_run: types.BaseChannel,
        evaluation: types.BaseChannel,
        blessing: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        pushed_model: types.BaseChannel,
        tuner_results: types.BaseChannel | None = None,
        drift: types.BaseChannel | None = None,
        experiment: ExperimentSettings | None = None,
    ) -> None:
        """Connect the inputs.

        Args:
            config: Configuration of the run as plain values.
            examples: Output of the AudioExampleGen.
            model_run: Output of the Trainer, with the history of the training.
            evaluation: Output of the GatedEvaluator.
            blessing: The same.
            infra_blessing: Output of the ServingValidator.
            pushed_model: Output of the Pusher.
            tuner_results: Output of the Tuner, if there is one.
            drift: Output of the DriftMonitor, if there is one.
            experiment: Experiment that parameters and metrics are logged to in addition to ML Metadata.
        """
        super().__init__(
            spec=RunReportSpec(
                config=json.dumps(config, sort_keys=True),
                experiment=experiment.to_json() if experiment else None,
                examples=examples,
                model_run=model_run,
                evaluation=evaluation,
                blessing=blessing,
                infra_blessing=infra_blessing,
                pushed_model=pushed_model,
                tuner_results=tuner_results,
                drift=drift,
                report=types.Channel(type=standard_artifacts.ModelEvaluation),
            )
        )
