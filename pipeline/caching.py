"""Cache keys that depend on the code of a component; TFX's own depend on its settings and inputs alone."""

from collections.abc import Iterator

from tfx.dsl.components.base import base_component
from tfx.orchestration import pipeline as tfx_pipeline

from modules.common.code_fingerprint import code_fingerprint, is_module


def mark_code(pipeline: tfx_pipeline.Pipeline) -> tfx_pipeline.Pipeline:
    """Give each component a flag that changes with its code and so changes the key of its cached outputs.

    On Vertex AI the digest of the image has that effect.

    Args:
        pipeline: The pipeline; it is modified and returned.
    """
    for node in pipeline.components:
        if isinstance(node, base_component.BaseComponent):
            node.executor_spec.add_extra_flags([f"--code={code_fingerprint(*sorted(set(_modules_of(node))))}"])
    return pipeline


def _modules_of(component: base_component.BaseComponent) -> Iterator[str]:
    """Yield the modules of this project that define the component's classes or that its properties name."""
    named = [value for value in component.exec_properties.values() if isinstance(value, str)]
    parents = [value.rpartition(".")[0] for value in named]
    classes = [each.__module__ for each in type(component).__mro__]
    yield from (name for name in [*classes, *named, *parents] if is_module(name))
