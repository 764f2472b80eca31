"""Lets a component's outputs be reused only while its code is the same: TFX's cache knows settings and inputs alone."""

from collections.abc import Iterator

from tfx.dsl.components.base import base_component
from tfx.orchestration import pipeline as tfx_pipeline

from modules.common.code_fingerprint import code_fingerprint, is_module


def mark_code(pipeline: tfx_pipeline.Pipeline) -> tfx_pipeline.Pipeline:
    """Gives each component a flag that changes with its code, and so the key of its cached outputs.

    On Vertex AI the image's tag does that.
    """
    for node in pipeline.components:
        if isinstance(node, base_component.BaseComponent):
            node.executor_spec.add_extra_flags([f"--code={code_fingerprint(*sorted(set(_modules_of(node))))}"])
    return pipeline


def _modules_of(component: base_component.BaseComponent) -> Iterator[str]:
    """Of this project: where its classes are defined, and what its properties name, such as ``run_fn``."""
    named = [value for value in component.exec_properties.values() if isinstance(value, str)]
    parents = [value.rpartition(".")[0] for value in named]
    classes = [each.__module__ for each in type(component).__mro__]
    yield from (name for name in [*classes, *named, *parents] if is_module(name))
