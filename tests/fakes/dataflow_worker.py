"""Dataflow worker for a staged pipeline: ``dataflow_worker.py PIPELINE.PB``.

The environment in the pipeline names a container image. In its place the Python SDK harness is started as a process,
by the command that Beam's boot program starts in that image.
"""

import sys
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.transforms import environments


def main(path: str) -> None:
    """Run the pipeline to its end; raise if it fails."""
    pipeline = beam_runner_api_pb2.Pipeline.FromString(Path(path).read_bytes())
    harness = environments.SubprocessSDKEnvironment(f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main")
    for environment in pipeline.components.environments.values():
        if environment.urn != "beam:env:docker:v1":
            raise ValueError(f"the environment is {environment.urn}; Dataflow runs containers")
        environment.CopyFrom(harness.to_runner_api(None))
    fn_runner.FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()


if __name__ == "__main__":
    main(sys.argv[1])
