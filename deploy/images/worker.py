"""Runs a Beam pipeline from the pipeline image in the worker image: ``worker.py ADDRESS`` of its worker pool.

Beam's own runner requests a worker from the pool, which starts as on Dataflow: by the image's entrypoint.
"""

import os
import sys

import apache_beam as beam
import grpc
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import environments

from modules.data.labels import EMOTIONS

_START_SEC = 300


def _describe_worker(_: int) -> tuple[int, str, int]:
    return os.getuid(), os.environ["SEMI_PERSISTENT_DIRECTORY"], len(EMOTIONS)


def main(address: str) -> None:
    """Run the pipeline to its end; raises if it fails."""
    grpc.channel_ready_future(grpc.insecure_channel(address)).result(timeout=_START_SEC)
    runner = fn_runner.FnApiRunner(default_environment=environments.ExternalEnvironment(address))
    with beam.Pipeline(runner=runner) as pipeline:
        found = pipeline | beam.Create([0]) | beam.Map(_describe_worker)
        assert_that(found, equal_to([(0, "/var/opt/google", len(EMOTIONS))]))
    print("the worker ran as root, with its folder of staged files, on the project's code", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
