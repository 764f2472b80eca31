"""``ser accept``: acceptance tests of models, with published bounds."""

import enum
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import terminal
from cli.errors import Refused
from cli.evaluate import Data, Folds, LeaveCorpusOut, ProtocolName, Root, choose
from cli.exits import ExitCode
from cli.folders import require_folder
from cli.options import ConfigFile, Overrides, PublicKey, PushedModels
from modules.common.native_output import discarded_native_stderr
from serving.server import command

if TYPE_CHECKING:
    from modules.evaluation.acceptance.measure import Kind
    from modules.reporting.summary import Acceptance, AcceptanceCheck

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Run the acceptance tests of ser-tests. Exit code 0: every check passed. 3: a check failed.",
)


class TestKind(enum.StrEnum):
    """Kinds of tests; Typer has no lists of literals."""

    CORRECTNESS = "correctness"
    FAIRNESS = "fairness"
    ROBUSTNESS = "robustness"


Tests = Annotated[
    list[TestKind] | None,
    typer.Option("--test", help="Kind of tests; may be repeated.", show_default="all"),
]
Emotions = Annotated[
    str,
    typer.Option(
        metavar="EMOTION,...",
        help="Emotions to compare, such as angry,happy,neutral,sad, for which the bounds were published.",
        show_default="all of the model",
    ),
]
EveryCheck = Annotated[bool, typer.Option("--all", help="Print every check, not only the failed ones.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print every check as JSON.")]


@app.command()
def folds(
    data: Data,
    folds: Folds = None,
    leave_corpus_out: LeaveCorpusOut = False,
    protocol: ProtocolName = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    root: Root = Path("output"),
    tests: Tests = None,
    emotions: Emotions = "",
    every_check: EveryCheck = False,
    as_json: AsJson = False,
) -> None:
    """Test the models of a cross-validation: each recording by the model that did not train on its speaker.

    The options are those of `ser evaluate`. Folds and changed recordings that are finished are not computed again.
    """
    chosen = choose(data, folds, leave_corpus_out, protocol, config, overrides, root)
    terminal.print_status("Loading TensorFlow ...")
    from pipeline.cross_validation import acceptance
    from pipeline.cross_validation import run as cross_validation
    from pipeline.run_lock import LOG_FILE, exclusive
    from pipeline.run_log import quiet

    with quiet(root / LOG_FILE), exclusive(root):
        planned = cross_validation.plan(
            chosen.config,
            data=Path(data),
            root=root,
            folds=chosen.folds,
            leave_corpus_out=chosen.leave_corpus_out,
            protocol=chosen.protocol,
        )
        compared = _compared(emotions, planned.corpus.emotions)
        result = acceptance.accept(planned, Path(data), kinds=_kinds(tests), emotions=compared)
    raise typer.Exit(_print(result, every_check=every_check, as_json=as_json))


@app.command()
def model(
    data: Annotated[str, typer.Option(help="Folder of recordings, local or gs://; may hold several corpora.")],
    model_base_path: PushedModels = command.DEFAULT_BASE_PATH,
    version: Annotated[int | None, typer.Option(min=1, help="Version to test.", show_default="the newest")] = None,
    public_key: PublicKey = None,
    speakers: Annotated[
        Literal["unseen", "test", "all"],
        typer.Option(help="Speakers that the model did not train on, those of its test split, or all."),
    ] = "unseen",
    tests: Tests = None,
    emotions: Emotions = "",
    every_check: EveryCheck = False,
    as_json: AsJson = False,
) -> None:
    """Test a pushed model, as it answers requests, on the recordings of speakers that it did not train on."""
    require_folder(data, option="--data")
    command.require_folder(model_base_path)
    from serving.batch.plan import find_model

    pushed = find_model(model_base_path, version, public_key=public_key)
    terminal.print_status(f"Model version {pushed.version}. Loading TensorFlow ...")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from modules.export.contract import load_contract

    compared = _compared(emotions, load_contract(pushed.path).labels)
    with discarded_native_stderr():
        import tensorflow as tf

        from pipeline import pushed_acceptance

        tf.config.list_logical_devices()  # CUDA's start writes there, too
    tf.get_logger().setLevel("ERROR")  # it warns that its session loader, which TF Serving uses, is old
    recordings = pushed_acceptance.recordings_of(pushed, data, speakers=speakers)
    terminal.print_status(recordings.sentence)
    result = pushed_acceptance.accept(pushed, recordings, kinds=_kinds(tests), emotions=compared)
    raise typer.Exit(_print(result, every_check=every_check, as_json=as_json))


def _kinds(tests: Sequence[TestKind] | None) -> "Sequence[Kind]":
    from modules.evaluation.acceptance.measure import KINDS

    return [kind for kind in KINDS if not tests or kind in tests]


def _compared(emotions: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the emotions to compare.

    Raises:
        Refused: The model does not have one, or only one is named.
    """
    named = tuple(dict.fromkeys(name.strip() for name in emotions.split(","))) if emotions else tuple(known)
    unknown = [name for name in named if name not in known]
    if unknown or len(named) < 2:
        raise Refused(f"--emotions is {emotions!r}; allowed: two or more of {', '.join(known)}, separated by commas")
    return named


def _print(result: "Acceptance", *, every_check: bool, as_json: bool) -> ExitCode:
    if as_json:
        print(result.model_dump_json(indent=2))
    else:
        _print_tables(result, every_check=every_check)
    return ExitCode.DIFFERENT if result.failed else ExitCode.DONE


def _print_tables(result: "Acceptance", *, every_check: bool) -> None:
    from modules.reporting.acceptance import test_rows

    head = f"{result.clips} clips of {result.speakers} speakers: {', '.join(result.emotions)}"
    tests = terminal.table("test", "closest to its bound", numbers=("passed", "value", "interval", "bound"), title=head)
    for row in test_rows(result):
        tests.add_row(*row)
    terminal.console().print(tests)
    for skipped in result.skipped:
        terminal.print_line(f"Not tested: {skipped.test}: {skipped.reason}.")
    shown = result.checks if every_check else result.failed
    if shown:
        terminal.console().print(_checks_table(shown, "every check" if every_check else "failed checks"))
    passed = len(result.checks) - len(result.failed)
    terminal.print_line(f"{passed} of {len(result.checks)} checks passed.")


def _checks_table(checks: "Sequence[AcceptanceCheck]", title: str) -> "terminal.Table":
    table = terminal.table("test", title, numbers=("value", "95 % interval", "bound"))
    for check in checks:
        table.add_row(check.test, check.name, *check.texts, style=None if check.passed else "bold")
    return table
