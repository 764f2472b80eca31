"""Driver of local runs: finds the newest span, and computes the fingerprint of all spans that are read."""

import posixpath
from typing import Any

from tfx.components.example_gen import driver, utils
from tfx.orchestration import data_types
from tfx.types import standard_component_specs

from components.audio_example_gen import executor
from components.audio_example_gen.fingerprint import fingerprint, used_by_tfx
from components.audio_example_gen.patterns import level_patterns
from components.audio_example_gen.spans import in_window, spans_until


class Driver(driver.FileBasedDriver):
    """TFX's driver, with earlier spans of the window added to the fingerprint, which otherwise covers the newest."""

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """Add span and fingerprint to the properties.

        Args:
            exec_properties: Properties of the component.
            pipeline_info: Pipeline.
            component_info: Component.
        """
        with used_by_tfx():
            resolved = super().resolve_exec_properties(exec_properties, pipeline_info, component_info)
        settings = executor.read_settings(resolved)
        if settings.spans == 1:
            return resolved
        input_base = resolved[standard_component_specs.INPUT_BASE_KEY]
        newest = resolved[utils.SPAN_PROPERTY_NAME]
        spans = spans_until(newest, input_base, level_patterns(settings.pattern))
        earlier = [
            fingerprint(f"span_{span.number}", posixpath.join(input_base, pattern))
            for span in in_window(spans, settings.spans)[:-1]
            for pattern in span.patterns
        ]
        resolved[utils.FINGERPRINT_PROPERTY_NAME] = "\n".join([resolved[utils.FINGERPRINT_PROPERTY_NAME], *earlier])
        return resolved
