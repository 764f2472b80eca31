"""Executor of the CuratedSchema."""

import os

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

import schema
from components.artifacts import Artifacts, Properties
from components.audio_example_gen import ingest_summary

TEXT_KEY = "schema_text"
EXAMPLES_KEY = "examples"
SCHEMA_KEY = "schema"

# File name that TFX components read in a Schema artifact.
_SCHEMA_FILE = "schema.pbtxt"


class Executor(base_executor.BaseExecutor):
    """Writer of the schema with the emotions of the examples."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Write ``schema.pbtxt``.

        Args:
            input_dict: The examples.
            output_dict: The schema.
            exec_properties: Text of the schema.
        """
        curated = text_format.Parse(exec_properties[TEXT_KEY], schema_pb2.Schema())
        schema.set_emotions(curated, ingest_summary.emotions(artifact_utils.get_single_uri(input_dict[EXAMPLES_KEY])))
        folder = artifact_utils.get_single_uri(output_dict[SCHEMA_KEY])
        io_utils.write_pbtxt_file(os.path.join(folder, _SCHEMA_FILE), curated)
