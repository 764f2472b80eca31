"""TFX's Evaluator with an executor whose blessing also depends on what TFMA's thresholds cannot say."""

from typing import Any, ClassVar

from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components import Evaluator
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter
from tfx.utils import json_utils

from components.gated_evaluator import executor
from modules.evaluation.gate import GateSettings


class GatedEvaluatorSpec(standard_component_specs.EvaluatorSpec):
    """TFX's Evaluator with the gate's settings."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.EvaluatorSpec.PARAMETERS,
        executor.GATE_KEY: ExecutionParameter(type=str),
        executor.SERVING_DIR_KEY: ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.EvaluatorSpec.INPUTS,
        executor.BASELINE_BLESSING_KEY: ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
    }


class GatedEvaluator(Evaluator):
    """Evaluates on one split with TFMA and blesses a model that also passes :func:`modules.evaluation.gate.decide`.

    Outputs are the Evaluator's. ``verdict.json`` beside the blessing lists every check; ``metrics.json`` and, where
    there is a baseline to compare with, ``comparison.json`` beside TFMA's results hold intervals over speakers.
    ``protocol.json`` beside the blessing says whom the model was trained on, for the day when it is the baseline.
    """

    SPEC_CLASS = GatedEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        split: str,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel,
        baseline_blessing: types.BaseChannel,
        serving_dir: str,
        eval_config: config_pb2.EvalConfig,
        extractors_module: str,
        gate: GateSettings,
    ) -> None:
        """Wires the evaluation.

        Args:
            split: The one that is evaluated.
            baseline_model: The blessed model; the channel may be empty.
            baseline_blessing: What it was blessed with.
            serving_dir: Folder of pushed versions, where the baseline is read from once its artifact is deleted.
            extractors_module: Import path of the module whose ``custom_extractors`` TFMA calls.
        """
        spec = GatedEvaluatorSpec(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            baseline_blessing=baseline_blessing,
            example_splits=json_utils.dumps([split]),
            eval_config=eval_config,
            fairness_indicator_thresholds=json_utils.dumps(None),
            module_path=extractors_module,
            gate=gate.to_json(),
            serving_dir=serving_dir,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        # Not Evaluator.__init__, which builds a spec without the gate's settings.
        base_beam_component.BaseBeamComponent.__init__(self, spec=spec)
