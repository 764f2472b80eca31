"""Component that compares new data with the data that the blessed baseline was trained on."""

from typing import ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.drift_monitor import executor
from components.drift_monitor.settings import MonitorSettings


class DriftMonitorSpec(types.ComponentSpec):
    """Interface of :class:`DriftMonitor`."""

    PARAMETERS: ClassVar[dict[str, ExecutionParameter]] = {executor.SETTINGS_KEY: ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {
        executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        executor.SCHEMA_KEY: ChannelParameter(type=standard_artifacts.Schema),
        executor.REFERENCE_KEY: ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS: ClassVar[dict[str, ChannelParameter]] = {
        # Vertex AI does not support custom artifact types; this type of TFX fits best.
        executor.DRIFT_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }


class DriftMonitor(base_component.BaseComponent):
    """Component that writes ``drift.json``: drift of this span and of the requests since the baseline was trained.

    It stops the run on drift in ``settings.stop_on``. Nodes that must wait for it name it with ``add_upstream_node``.
    """

    SPEC_CLASS = DriftMonitorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        settings: MonitorSettings,
        reference: types.BaseChannel | None = None,
    ) -> None:
        """Wires the monitor.

        Args:
            examples: Of this run; their training split is compared, of several spans that of the newest.
            schema: Its comparators are applied.
            settings: What else is compared, and how.
            reference: Examples that the blessed baseline was trained on; may be empty, as it is in a first run.
        """
        super().__init__(
            spec=DriftMonitorSpec(
                examples=examples,
                schema=schema,
                reference=reference,
                settings=settings.to_json(),
                drift=types.Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )
