"""Component that writes the curated schema as an artifact."""

from typing import ClassVar

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.curated_schema import executor


class CuratedSchemaSpec(types.ComponentSpec):
    """Interface of :class:`CuratedSchema`."""

    PARAMETERS: ClassVar[dict[str, ExecutionParameter]] = {executor.TEXT_KEY: ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {
        executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples)
    }
    OUTPUTS: ClassVar[dict[str, ChannelParameter]] = {
        executor.SCHEMA_KEY: ChannelParameter(type=standard_artifacts.Schema)
    }


class CuratedSchema(base_component.BaseComponent):
    """Source of the Schema artifact.

    TFX's ImportSchemaGen takes a path, so a cached run would miss a change of the file. Here the text is the parameter,
    and the machine of the component needs no file.

    The executor reads the emotions that occur in ``examples``. As an input they also limit the age of a cached schema
    to theirs, so that its file still exists on Vertex AI (:mod:`components.audio_example_gen.vertex_driver`).
    """

    SPEC_CLASS = CuratedSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, schema: schema_pb2.Schema, *, examples: types.BaseChannel) -> None:
        """Connect the input.

        Args:
            schema: The schema.
            examples: Output of the AudioExampleGen.
        """
        spec = CuratedSchemaSpec(
            **{
                executor.TEXT_KEY: text_format.MessageToString(schema),
                executor.EXAMPLES_KEY: examples,
                executor.SCHEMA_KEY: types.Channel(type=standard_artifacts.Schema),
            }
        )
        super().__init__(spec=spec)
