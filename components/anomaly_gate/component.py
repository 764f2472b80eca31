"""Stops the run on anomalous data. ExampleValidator alone only reports."""

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
    """Raises when ExampleValidator found anomalies, or when examples were made with another audio spec.

    It has no output: what must wait for it names it with ``add_upstream_node``.
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, *, anomalies: types.BaseChannel, statistics: types.BaseChannel, audio_spec: str) -> None:
        """Wires the gate.

        Args:
            anomalies: What ExampleValidator found.
            statistics: What StatisticsGen counted, for the fingerprints that the examples carry.
            audio_spec: Fingerprint that every example must carry.
        """
        super().__init__(spec=AnomalyGateSpec(anomalies=anomalies, statistics=statistics, audio_spec=audio_spec))
