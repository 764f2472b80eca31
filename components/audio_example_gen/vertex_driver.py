"""Driver on Vertex AI: TFX's, with this project's fingerprint of the recordings and a period of time.

Vertex AI's cache reuses an execution of any age without checking its files, which the bucket's lifecycle rule deletes.
So the fingerprint includes the number of the present period of ``--cache_max_age_days``. In a new period the recordings
are read again, and with them all nodes run again.
"""

import argparse
import sys
import time

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.components.example_gen import utils
from tfx.orchestration.kubeflow.v2.file_based_example_gen import driver
from tfx.utils import io_utils

from components.audio_example_gen.fingerprint import used_by_tfx

MAX_AGE_FLAG = "--cache_max_age_days"

_DAY_SEC = 24 * 3600


def main(arguments: list[str]) -> None:
    """Run TFX's driver and add the period to its fingerprint.

    Args:
        arguments: Arguments of TFX's driver, and ``--cache_max_age_days``.
    """
    options = _parse(arguments)
    with used_by_tfx():
        driver.main(options)
    given = json_format.Parse(
        options.json_serialized_invocation_args, pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True
    )
    _add_period(given.outputs.output_file, int(time.time() // (options.cache_max_age_days * _DAY_SEC)))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--json_serialized_invocation_args", required=True)
    parser.add_argument("--json_serialized_inputs_spec_args")
    parser.add_argument(MAX_AGE_FLAG, type=int, required=True)
    options, _ = parser.parse_known_args(arguments)  # the others are Beam's
    return options


def _add_period(output_file: str, period: int) -> None:
    written = json_format.Parse(io_utils.read_string_file(output_file), pipeline_spec_pb2.ExecutorOutput())
    fingerprint = written.parameter_values[utils.FINGERPRINT_PROPERTY_NAME]
    fingerprint.string_value = f"{fingerprint.string_value}\ncache_period:{period}"
    io_utils.write_string_file(output_file, json_format.MessageToJson(written, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1:])
