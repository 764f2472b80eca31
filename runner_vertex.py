"""Command line of the pipeline on Vertex AI: compile it, submit a run, log failed runs, schedule runs.

python runner_vertex.py compile|submit|log-failed|schedule [--config FILE] [--set section.key=value ...]
"""

import contextlib
import datetime
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

# Before TensorFlow is imported: TensorFlow Transform and TFMA would otherwise switch child processes to Keras 2.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from cli import program, terminal
from cli.exits import ExitCode
from cli.folders import require_output_file
from cli.options import ConfigFile, Overrides, require_finite
from pipeline.config import load_config
from pipeline.default_family import ON_VERTEX
from pipeline.run_log import quiet
from pipeline.vertex.config import VertexConfig

if TYPE_CHECKING:
    from pipeline.vertex.jobs import Run

_DEFAULT_CONFIG = Path(__file__).parent / "configs" / "vertex.yaml"
_DEFAULT_LOG = Path("output") / "vertex.log"
_NOTHING_DEPLOYED = (
    "This configuration deploys nothing: vertex.endpoint.image is not set. Blessed models are pushed to {serving_dir} "
    "and registered as versions of {model_id}. Set vertex.endpoint.image to deploy them."
)

Log = Annotated[Path, typer.Option(help="File for the messages of libraries.")]
Span = Annotated[int | None, typer.Option(min=0, metavar="N", help="Span of recordings to read instead of the newest.")]
Job = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Compiled pipeline, a file or gs://bucket/compiled/latest.json, to use instead of compiling.",
    ),
]

app = program.application(no_args_is_help=True, add_completion=False)
schedule = program.application(no_args_is_help=True, help="Start runs at fixed times.", add_completion=False)
app.add_typer(schedule, name="schedule")


@app.callback()
def _root(version: program.Version = False) -> None:
    """Run the speech-emotion pipeline on Vertex AI."""


@app.command("compile")
def compile_(
    config: ConfigFile = _DEFAULT_CONFIG,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("pipeline.json"),
    span: Span = None,
    log: Log = _DEFAULT_LOG,
) -> None:
    """Write the pipeline as JSON; needs no credentials."""
    require_output_file(output, option="--output")
    with _prepared(config, overrides, log, span=span) as settings:
        text = json.dumps(_job(settings, span=span), indent=1, sort_keys=True) + "\n"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
        terminal.print_line(f"{output}: {len(text) // 1024} KiB, for `submit` or any client of Vertex AI Pipelines")


@app.command()
def submit(
    config: ConfigFile = _DEFAULT_CONFIG,
    overrides: Overrides = None,
    wait: Annotated[bool, typer.Option("--wait", help="Print the states of tasks until the run ends.")] = False,
    poll_sec: Annotated[
        float, typer.Option(min=0, help="Seconds between two requests with --wait.", callback=require_finite)
    ] = 15,
    span: Span = None,
    job: Job = None,
    when_new: Annotated[
        bool, typer.Option("--when-new", help="Start it only when recordings have arrived and no more arrive.")
    ] = False,
    log: Log = _DEFAULT_LOG,
) -> None:
    """Start a run."""
    with _prepared(config, overrides, log, span=span) as settings:
        from pipeline.vertex import jobs as vertex_jobs

        if when_new:
            run = _start_when_new(settings, span=span, job=job)
        else:
            run = vertex_jobs.submit(settings, _job(settings, span=span, job=job))
        if run is None:
            return
        terminal.print_line(f"run      {run.run_id}\nname     {run.name}\nconsole  {run.console}")
        if wait and not vertex_jobs.follow(settings, run, terminal.print_status, poll_sec=poll_sec):
            raise typer.Exit(ExitCode.FAILED)


@app.command("log-failed")
def log_failed(
    config: ConfigFile = _DEFAULT_CONFIG,
    overrides: Overrides = None,
    days: Annotated[int, typer.Option(min=1, help="Days since the runs ended.")] = 7,
    log: Log = _DEFAULT_LOG,
) -> None:
    """Log failed and cancelled runs to vertex.experiment, except those that it has."""
    with _prepared(config, overrides, log) as settings:
        from pipeline.vertex import jobs as vertex_jobs

        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
        if not vertex_jobs.log_failed(settings, since=since, report=terminal.print_line):
            raise typer.Exit(ExitCode.FAILED)


@schedule.command()
def create(
    config: ConfigFile = _DEFAULT_CONFIG, overrides: Overrides = None, job: Job = None, log: Log = _DEFAULT_LOG
) -> None:
    """Create vertex.schedule.name with vertex.schedule.cron."""
    with _prepared(config, overrides, log) as settings:
        from pipeline.vertex import jobs as vertex_jobs

        _print_done("created", vertex_jobs.create_schedule(settings, _job(settings, job=job)))


@schedule.command()
def update(
    config: ConfigFile = _DEFAULT_CONFIG, overrides: Overrides = None, job: Job = None, log: Log = _DEFAULT_LOG
) -> None:
    """Replace times, limit and pipeline of the schedule."""
    with _prepared(config, overrides, log) as settings:
        from pipeline.vertex import jobs as vertex_jobs

        _print_done("updated", vertex_jobs.update_schedule(settings, _job(settings, job=job)))


@schedule.command()
def pause(config: ConfigFile = _DEFAULT_CONFIG, overrides: Overrides = None, log: Log = _DEFAULT_LOG) -> None:
    """Stop starting runs."""
    with _prepared(config, overrides, log) as settings:
        from pipeline.vertex import jobs as vertex_jobs

        _print_done("paused", vertex_jobs.pause_schedule(settings))


@schedule.command()
def resume(config: ConfigFile = _DEFAULT_CONFIG, overrides: Overrides = None, log: Log = _DEFAULT_LOG) -> None:
    """Start runs again."""
    with _prepared(config, overrides, log) as settings:
        from pipeline.vertex import jobs as vertex_jobs

        _print_done("resumed", vertex_jobs.resume_schedule(settings))


@schedule.command("list")
def list_(config: ConfigFile = _DEFAULT_CONFIG, overrides: Overrides = None, log: Log = _DEFAULT_LOG) -> None:
    """Show all schedules of the project and region."""
    with _prepared(config, overrides, log) as settings:
        from pipeline.vertex import jobs as vertex_jobs

        lines = map(vertex_jobs.describe_schedule, vertex_jobs.list_schedules(settings))
        terminal.print_line("\n".join(lines) or "no schedules; `schedule create` makes one")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command line without the program; ``sys.argv`` by default.

    Returns:
        Exit code, as in :class:`cli.exits.ExitCode`.
    """
    return program.run(app, "runner_vertex.py", arguments)


@contextlib.contextmanager
def _prepared(
    config: Path | None, overrides: list[str] | None, log: Path, *, span: int | None = None
) -> Iterator[VertexConfig]:
    """Yield the checked configuration, while the messages of libraries go to the log."""
    require_output_file(log, option="--log")
    settings = load_config(
        config, overrides=overrides or [], environ=os.environ, family=ON_VERTEX.name, tree=VertexConfig
    )
    settings.span_range(span)
    terminal.print_status("Loading TensorFlow Extended and Google Cloud ...")
    with quiet(log):
        yield settings


def _job(config: VertexConfig, *, span: int | None = None, job: str | None = None) -> dict[str, Any]:
    """Compile the pipeline, or read the compiled one that ``--job`` names."""
    if job:
        from pipeline.vertex.jobs import read_job

        return read_job(job, config.span_range(span))
    from pipeline.vertex.compile import compile_pipeline

    if not config.vertex.endpoint.image:
        endpoint = config.vertex.endpoint
        terminal.print_status(
            _NOTHING_DEPLOYED.format(model_id=endpoint.model_id, serving_dir=config.vertex.serving_dir)
        )
    return compile_pipeline(config, span=span)


def _start_when_new(config: VertexConfig, *, span: int | None, job: str | None) -> "Run | None":
    from pipeline.vertex.new_recordings import start_when_new

    return start_when_new(config, lambda: _job(config, span=span, job=job), terminal.print_line)


def _print_done(action: str, name: str) -> None:
    terminal.print_line(f"{action}  {name}")


if __name__ == "__main__":
    sys.exit(main())
