"""Executor of the CuratedSchema."""

import os

from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.artifacts import Artifacts, Properties

TEXT_KEY = "schema_text"
EXAMPLES_KEY = "examples"
SCHEMA_KEY = "schema"

# File name that TFX components read in a Schema artifact.
_SCHEMA_FILE = "schema.pbtxt"


class Executor(base_executor.BaseExecutor):
    """Writer of the schema's text."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Write ``schema.pbtxt``.

        Args:
            input_dict: Examples, which are not read.
            output_dict: The schema.
            exec_properties: Text of the schema.
        """
        folder = artifact_utils.get_single_uri(output_dict[SCHEMA_KEY])
        io_utils.write_string_file(os.path.join(folder, _SCHEMA_FILE), exec_properties[TEXT_KEY])
