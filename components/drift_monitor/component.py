"""Component that compares new data with the training data of the blessed baseline."""

from typing import ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.drift_monitor import executor
from components.drift_monitor.settings import MonitorSettings


class DriftMonitorSpec(types.ComponentSpec):
    """Interface of :class:`DriftMonitor`."""

    PARAMETERS: ClassVar[dict[str, ExecutionParameter]] = {
        executor.SETTINGS_KEY: ExecutionParameter(type=str),
        executor.MODELS_KEY: ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {
        executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        executor.SCHEMA_KEY: ChannelParameter(type=standard_artifacts.Schema),
        executor.REFERENCE_KEY: ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS: ClassVar[dict[str, ChannelParameter]] = {
        # Vertex AI accepts TFX's artifact types alone; this one is the closest.
        executor.DRIFT_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }


class DriftMonitor(base_component.BaseComponent):
    """Writer of ``drift.json``: drift of this run's data and of logged requests since the baseline was trained.

    It stops the run as ``settings.stop_on`` demands. Nodes that must run after it name it with ``add_upstream_node``.
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
        models: str | None = None,
    ) -> None:
        """Connect the inputs.

        Args:
            examples: Examples of this run. Their training split is compared; of several spans, the newest alone.
            schema: Schema with comparators.
            settings: Settings of the comparisons.
            reference: Examples that the blessed baseline was trained on; the channel may be empty, as in a first run.
            models: Folder of pushed models; the reference is what the newest was trained on where no other is given.
        """
        super().__init__(
            spec=DriftMonitorSpec(
                examples=examples,
                schema=schema,
                reference=reference,
                settings=settings.to_json(),
                models=models,
                drift=types.Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )
