"""Command line of the pipeline on Vertex AI: compile it, submit a run, schedule runs.

python runner_vertex.py compile|submit|schedule [--config FILE] [--set section.key=value ...]
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before TensorFlow is imported: TensorFlow Transform and TFMA would otherwise switch child processes to Keras 2.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from pipeline import default_family
from pipeline.config import ConfigError, load_config
from pipeline.run_log import quiet
from pipeline.runner_options import add_configuration
from pipeline.vertex.config import VertexConfig

FAILED, UNUSABLE = 1, 2

_DEFAULT_CONFIG = Path(__file__).parent / "configs" / "vertex.yaml"
_LOG = Path("output") / "vertex.log"
_JOB_HELP = "compiled pipeline, a file or gs://bucket/compiled/latest.json, to use instead of compiling"
_NOTHING_DEPLOYED = (
    "This configuration deploys nothing: vertex.endpoint.image is not set. Blessed models are pushed to {serving_dir} "
    "and registered as versions of {model_id}. Set vertex.endpoint.image to deploy them."
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command line without the program; ``sys.argv`` by default.

    Returns:
        Exit status: 0 when it is done, 1 when the cloud or a run failed, 2 when an input is unusable.
    """
    options = _parser().parse_args(arguments)
    try:
        config = load_config(
            options.config,
            overrides=options.overrides,
            environ=os.environ,
            family=default_family.ON_VERTEX.name,
            tree=VertexConfig,
        )
        config.span_range(options.span)
    except ConfigError as error:
        return _fail(str(error), UNUSABLE)
    _print_status("Loading TensorFlow Extended and Google Cloud ...")
    from pipeline.vertex.jobs import CloudError  # takes seconds, so the input is checked first

    try:
        with quiet(options.log):
            return options.act(config, options)
    except ConfigError as error:
        return _fail(str(error), UNUSABLE)
    except CloudError as error:
        return _fail(str(error), FAILED)


def _compile(config: VertexConfig, options: argparse.Namespace) -> int:
    text = json.dumps(_job(config, options), indent=1, sort_keys=True) + "\n"
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)
    print(f"{options.output}: {len(text) // 1024} KiB, for `submit` or any client of Vertex AI Pipelines")
    return 0


def _submit(config: VertexConfig, options: argparse.Namespace) -> int:
    from pipeline.vertex import jobs as vertex_jobs

    run = vertex_jobs.submit(config, _job(config, options))
    print(f"run      {run.run_id}\nname     {run.name}\nconsole  {run.console}", flush=True)
    if not options.wait:
        return 0
    return 0 if vertex_jobs.follow(config, run, _print_status, poll_sec=options.poll_sec) else FAILED


def _create(config: VertexConfig, options: argparse.Namespace) -> int:
    from pipeline.vertex import jobs as vertex_jobs

    return _print_done("created", vertex_jobs.create_schedule(config, _job(config, options)))


def _update(config: VertexConfig, options: argparse.Namespace) -> int:
    from pipeline.vertex import jobs as vertex_jobs

    return _print_done("updated", vertex_jobs.update_schedule(config, _job(config, options)))


def _pause(config: VertexConfig, _: argparse.Namespace) -> int:
    from pipeline.vertex import jobs as vertex_jobs

    return _print_done("paused", vertex_jobs.pause_schedule(config))


def _resume(config: VertexConfig, _: argparse.Namespace) -> int:
    from pipeline.vertex import jobs as vertex_jobs

    return _print_done("resumed", vertex_jobs.resume_schedule(config))


def _list(config: VertexConfig, _: argparse.Namespace) -> int:
    from pipeline.vertex import jobs as vertex_jobs

    schedules = vertex_jobs.list_schedules(config)
    print("\n".join(map(vertex_jobs.describe_schedule, schedules)) or "no schedules; `schedule create` makes one")
    return 0


def _job(config: VertexConfig, options: argparse.Namespace) -> dict[str, Any]:
    """Compile the pipeline, or read the compiled one that ``--job`` names."""
    if options.job:
        from pipeline.vertex.jobs import read_job

        return read_job(options.job, config.span_range(options.span))
    from pipeline.vertex.compile import compile_pipeline

    if not config.vertex.endpoint.image:
        _print_status(
            _NOTHING_DEPLOYED.format(model_id=config.vertex.endpoint.model_id, serving_dir=config.vertex.serving_dir)
        )
    return compile_pipeline(config, span=options.span)


def _print_done(action: str, name: str) -> int:
    print(f"{action}  {name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runner_vertex.py", description="Run the speech-emotion pipeline on Vertex AI."
    )
    commands = parser.add_subparsers(required=True, metavar="compile|submit|schedule")
    compiling = _command(commands, "compile", _compile, "write the pipeline as JSON; needs no credentials")
    compiling.add_argument("--output", type=Path, default=Path("pipeline.json"), help="the file (%(default)s)")
    submitting = _command(commands, "submit", _submit, "start a run")
    submitting.add_argument("--wait", action="store_true", help="print the states of tasks until the run ends")
    submitting.add_argument(
        "--poll-sec", type=float, default=15, help="seconds between two requests with --wait (%(default)s)"
    )
    for command in (compiling, submitting):
        command.add_argument("--span", type=int, metavar="N", help="span of recordings to read instead of the newest")
    submitting.add_argument("--job", metavar="ADDRESS", help=_JOB_HELP)
    schedule = commands.add_parser("schedule", help="start runs at fixed times").add_subparsers(
        required=True, metavar="create|update|pause|resume|list"
    )
    creating = _command(schedule, "create", _create, "create vertex.schedule.name with vertex.schedule.cron")
    updating = _command(schedule, "update", _update, "replace times, limit and pipeline of the schedule")
    for command in (creating, updating):
        command.add_argument("--job", metavar="ADDRESS", help=_JOB_HELP)
    _command(schedule, "pause", _pause, "stop starting runs")
    _command(schedule, "resume", _resume, "start runs again")
    _command(schedule, "list", _list, "show all schedules of the project and region")
    return parser


def _command(
    commands: Any, name: str, act: Callable[[VertexConfig, argparse.Namespace], int], purpose: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose)
    parser.set_defaults(act=act, span=None, job=None)
    add_configuration(parser, default=_DEFAULT_CONFIG)
    parser.add_argument("--log", type=Path, default=_LOG, help="file for the messages of libraries (%(default)s)")
    return parser


def _print_status(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(message: str, status: int) -> int:
    _print_status(f"runner_vertex: {message}")
    return status


if __name__ == "__main__":
    sys.exit(main())
