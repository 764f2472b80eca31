"""``ser batch``: the emotion of all recordings of a folder, by the last pushed model, into files or a table."""

import argparse
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import terminal
from cli.errors import CommandFailed, Refused
from cli.exits import ExitCode
from cli.folders import require_folder, require_output
from cli.options import PublicKey, PushedModels
from cli.recordings import sound_files
from cli.terminal import counted
from modules.common import addresses
from modules.common.bigquery_table import FORM, is_table, parse_table
from modules.common.errors import SerError
from modules.common.native_output import discarded_native_stderr
from serving.batch.plan import Output, Plan, find_model, make_plan
from serving.server import command

app = typer.Typer(add_completion=False)

_DATAFLOW = "DataflowRunner"


@app.command()
def batch(
    folder: Annotated[str, typer.Argument(help="Folder of recordings, at any depth, local or gs://.")],
    beam_args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- BEAM ARGUMENTS]",
            help="Arguments of Beam, such as --runner=DataflowRunner.",
            show_default="its local runner, with a thread for each core",
        ),
    ] = None,
    *,
    out: Annotated[
        str, typer.Option(help=f"Folder of the results, local or gs://, or table {FORM}. Run again to continue.")
    ],
    form: Annotated[
        Literal["parquet", "csv", "jsonl"] | None,
        typer.Option("--format", help="Format of a folder's files.", show_default="parquet"),
    ] = None,
    model_base_path: PushedModels = command.DEFAULT_BASE_PATH,
    version: Annotated[int | None, typer.Option(min=1, help="Version to use.", show_default="the newest")] = None,
    public_key: PublicKey = None,
    recordings_per_file: Annotated[
        int, typer.Option(min=1, help="Recordings in a file of results; an interrupted file is scored again.")
    ] = 64,
) -> None:
    """Predict the emotion of all recordings of a folder. Exit code 0: each has an answer. 5: some have. 1: none has."""
    output = _output(out, form, beam_args or [])
    _require_beam_args(
        beam_args or [], {"the folder": folder, "--out": output.folder, "--model-base-path": model_base_path}
    )
    require_folder(folder)
    command.require_folder(model_base_path)
    if not addresses.in_bucket(output.folder):
        require_output(Path(output.folder), option="--out")
    recordings = sound_files(folder)
    model = find_model(model_base_path, version, public_key=public_key)
    if output.table and output.is_new:
        from serving.batch.table import require_empty

        require_empty(output.table)
    plan = make_plan(model, recordings, output=output, recordings_per_file=recordings_per_file)
    before = plan.finished_recordings()
    terminal.print_status(
        f"{counted(plan.recordings, 'recording')}, {before} of them finished; model version {model.version}."
    )
    terminal.print_status("Loading Apache Beam and TensorFlow ...")
    _score(plan, beam_args or [])
    raise typer.Exit(_summarise(plan, out))


def _output(out: str, form: str | None, beam_args: list[str]) -> Output:
    """Return where results are written: a folder, or for a table a folder below Beam's --temp_location."""
    if not is_table(out):
        return Output(addresses.absolute(out), form or "parquet")
    table = parse_table(out)
    if table is None:
        raise Refused(f"--out {out} does not name a table; the form is {FORM}")
    if form:
        raise Refused(f"--format {form} is for files; leave it out, or name a folder with --out")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--temp_location", nargs="?", const="", default="")
    temporary = parser.parse_known_args(beam_args)[0].temp_location
    if not addresses.in_bucket(temporary):
        raise Refused(
            f"BigQuery loads files of a bucket, and --temp_location is {temporary or 'missing'}; add "
            "-- --temp_location=gs://BUCKET/FOLDER"
        )
    return Output(f"{temporary.rstrip('/')}/ser-batch/{table.full_name}", "jsonl", table)


def _require_beam_args(beam_args: list[str], places: dict[str, str]) -> None:
    """Refuse a second folder, and local places that Dataflow's workers would not find."""
    if beam_args and not beam_args[0].startswith("--"):
        raise Refused(f"{beam_args[0]} is a second folder; give one, and Beam's arguments behind `--`")
    local = [f"{name} {address}" for name, address in places.items() if not addresses.in_bucket(address)]
    if local and any(_DATAFLOW in argument for argument in beam_args):
        raise Refused(f"Dataflow's workers cannot read this machine: {', '.join(local)}; name gs:// addresses")


def _score(plan: Plan, beam_args: list[str]) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with discarded_native_stderr():
        import tensorflow as tf

        from serving.batch.scoring import score

        tf.config.list_logical_devices()  # CUDA's start writes there, too
    tf.get_logger().setLevel("ERROR")  # it warns that its session loader, which TF Serving uses, is old
    try:
        score(plan, beam_args)
    except Exception as error:  # a worker's, of any kind, which Beam raises
        raise CommandFailed(
            f"the batch stopped: {_described(error)}\n{plan.finished_recordings()} of {plan.recordings} "
            "recordings are finished; run the same command again to continue"
        ) from error


def _described(error: Exception) -> str:
    return str(error) if isinstance(error, SerError) else f"{type(error).__name__}: {error}"


def _summarise(plan: Plan, out: str) -> ExitCode:
    """Print how many recordings have an answer, and return the exit code."""
    failed = plan.output.failed_recordings()
    answered = plan.recordings - failed
    results, errors = (out, f"{out}_errors") if plan.output.table else (f"{out}/results", f"{out}/errors")
    with_error = f", {failed} with an error, in {errors}" if failed else ""
    terminal.print_line(f"{counted(plan.recordings, 'recording')}: {answered} with an answer, in {results}{with_error}")
    if not failed:
        return ExitCode.DONE
    return ExitCode.PARTLY if answered else ExitCode.FAILED
