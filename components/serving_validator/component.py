"""Component that rejects a model which a server cannot load or serve over gRPC."""

from typing import ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.serving_validator import executor


class ServingValidatorSpec(types.ComponentSpec):
    """Interface of :class:`ServingValidator`."""

    PARAMETERS: ClassVar[dict[str, ExecutionParameter]] = {
        executor.SPLIT_KEY: ExecutionParameter(type=str),
        executor.TIMEOUT_SEC_KEY: ExecutionParameter(type=float),
    }
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {
        executor.MODEL_KEY: ChannelParameter(type=standard_artifacts.Model),
        executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS: ClassVar[dict[str, ChannelParameter]] = {
        executor.BLESSING_KEY: ChannelParameter(type=standard_artifacts.InfraBlessing),
    }


class ServingValidator(base_component.BaseComponent):
    """Validator that serves the candidate and compares the server's answers with those of the SavedModel.

    TFX's InfraValidator does this with a container; this one needs no Docker. The output ``blessing`` is the
    InfraBlessing that TFX's Pusher takes; ``serving_check.json`` in it holds the check.
    """

    SPEC_CLASS = ServingValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        split: str,
        timeout_sec: float = executor.TIMEOUT_SEC,
    ) -> None:
        """Create the component.

        Args:
            model: Channel of the candidate.
            examples: Channel of the examples.
            split: Split that the requests are taken from.
            timeout_sec: Limit for loading the model, and again for all answers, in seconds.
        """
        super().__init__(
            spec=ServingValidatorSpec(
                model=model,
                examples=examples,
                split=split,
                timeout_sec=timeout_sec,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )
