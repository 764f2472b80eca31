"""Component that stops the run on anomalies, which ExampleValidator alone only reports."""

from typing import ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.anomaly_gate import executor


class AnomalyGateSpec(types.ComponentSpec):
    """Interface of :class:`AnomalyGate`."""

    PARAMETERS: ClassVar[dict[str, ExecutionParameter]] = {
        executor.AUDIO_SPEC_KEY: ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {
        executor.ANOMALIES_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        executor.STATISTICS_KEY: ChannelParameter(type=standard_artifacts.ExampleStatistics),
    }
    OUTPUTS: ClassVar[dict[str, ChannelParameter]] = {}


class AnomalyGate(base_component.BaseComponent):
    """Gate that fails when ExampleValidator found anomalies or examples have another audio spec.

    It has no output: nodes that must run after it name it with ``add_upstream_node``.
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, *, anomalies: types.BaseChannel, statistics: types.BaseChannel, audio_spec: str) -> None:
        """Connect the inputs.

        Args:
            anomalies: Output of ExampleValidator.
            statistics: Output of StatisticsGen; it has the audio specs' fingerprints of the examples.
            audio_spec: Fingerprint that every example must have.
        """
        super().__init__(spec=AnomalyGateSpec(anomalies=anomalies, statistics=statistics, audio_spec=audio_spec))
