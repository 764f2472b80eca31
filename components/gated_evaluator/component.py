"""TFX's Evaluator with an executor whose blessing also depends on checks that TFMA's thresholds cannot express."""

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
    """Evaluator whose blessing needs TFMA's thresholds and :func:`modules.evaluation.gate.decide`.

    Outputs are the Evaluator's. The evaluation also has ``metrics.json`` and, if there is a baseline to compare with,
    ``comparison.json``, both with intervals over speakers. The blessing also has ``verdict.json``, which lists every
    check, and ``protocol.json``, hashes of the speakers of each split, for runs in which the model is the baseline.
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
        """Connect the inputs.

        Args:
            examples: Examples of the run.
            split: Name of the split to evaluate on.
            model: Candidate.
            baseline_model: The blessed model; the channel may be empty.
            baseline_blessing: Its blessing.
            serving_dir: Folder of pushed versions, from which the baseline is read if its artifact was deleted.
            eval_config: Configuration of TFMA.
            extractors_module: Import path of the module whose ``custom_extractors`` TFMA calls.
            gate: Settings of the gate.
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
