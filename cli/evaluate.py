"""``ser evaluate``: cross-validation of a configuration on unseen speakers."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from cli import terminal
from cli.errors import Refused
from cli.folders import require_folder, require_root
from cli.options import ConfigFile, Overrides
from modules.common import addresses

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.cross_validation.protocols.catalog import EvaluationProtocol
    from pipeline.cross_validation.run import CrossValidation

app = typer.Typer(add_completion=False)

_FOLDS = 6
_LIST = "list"


def _names_beginning_with(incomplete: str) -> list[str]:
    """Return the names of protocols, for the completion of a shell."""
    from pipeline.cross_validation.protocols.catalog import protocol_names

    return [name for name in (_LIST, *protocol_names()) if name.startswith(incomplete)]


def _known(name: str | None) -> str | None:
    """Print the protocols and exit if these are asked for; refuse an unknown name before any recording is read."""
    if name is None:
        return None
    from pipeline.cross_validation.protocols.catalog import protocol_named, protocol_names

    if name == _LIST:
        for each in protocol_names():
            terminal.print_line(f"{each:<24}{protocol_named(each).title}")
        raise typer.Exit
    return protocol_named(name).name


Data = Annotated[str, typer.Option(help="Local folder of recordings; may hold several corpora.")]
Folds = Annotated[
    int | None, typer.Option(min=2, help=f"Number of folds, {_FOLDS} by default; each leaves other speakers out.")
]
LeaveCorpusOut = Annotated[
    bool, typer.Option("--leave-corpus-out", help="Leave a whole corpus out of each fold instead.")
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="Folds and emotions of a named protocol; `list` prints the names.",
        callback=_known,
        is_eager=True,
        autocompletion=_names_beginning_with,
    ),
]
Root = Annotated[Path, typer.Option(help="Folder for features, results and the report.")]


class Chosen(NamedTuple):
    """Configuration and folds of a command line.

    Attributes:
        config: The configuration, with the emotions of the protocol.
        folds: Number of folds.
        leave_corpus_out: Whether each fold leaves a corpus out.
        protocol: The named protocol, if there is one.
    """

    config: "PipelineConfig"
    folds: int
    leave_corpus_out: bool
    protocol: "EvaluationProtocol | None"


@app.command()
def evaluate(
    data: Data,
    folds: Folds = None,
    leave_corpus_out: LeaveCorpusOut = False,
    protocol: ProtocolName = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    root: Root = Path("output"),
) -> None:
    """Cross-validate: train and evaluate a model for each fold. A stopped run resumes."""
    chosen = choose(data, folds, leave_corpus_out, protocol, config, overrides, root)
    from pipeline.run_lock import LOG_FILE
    from pipeline.run_log import quiet

    with quiet(root / LOG_FILE):
        result = _cross_validate(chosen, Path(data), root)
    _print(result)


def choose(
    data: str,
    folds: int | None,
    leave_corpus_out: bool,
    protocol: str | None,
    config: Path | None,
    overrides: list[str] | None,
    root: Path,
) -> Chosen:
    """Return configuration and folds, and print the model family, before any recording is read.

    Args:
        data: Value of the option.
        folds: The same.
        leave_corpus_out: The same.
        protocol: The same.
        config: The same.
        overrides: The same.
        root: The same.

    Raises:
        Refused: A value cannot be used.
        pipeline.config.ConfigError: A setting cannot be used.
    """
    if addresses.in_bucket(data):
        raise Refused(f"{data} is in a bucket; copy it to a local folder first: gcloud storage cp -r {data} .")
    if protocol and (folds or leave_corpus_out):
        other = "--folds" if folds else "--leave-corpus-out"
        raise Refused(f"--protocol {protocol} and {other} are given; the protocol has its own folds: leave one out")
    require_folder(data, option="--data")
    require_root(root, option="--root")
    from pipeline.config import load_config
    from pipeline.cross_validation.protocols.catalog import protocol_named
    from pipeline.default_family import model_line, on_this_machine

    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    default = on_this_machine()
    settings = load_config(config, overrides=overrides or [], environ=os.environ, family=default.name)
    named = protocol_named(protocol) if protocol else None
    if named:
        settings = named.configured(settings)
        terminal.print_status(f"Protocol {named.name}: {named.title}")
    terminal.print_status(model_line(settings.training.family, default))
    return Chosen(settings, folds or _FOLDS, leave_corpus_out, named)


def _cross_validate(chosen: Chosen, data: Path, root: Path) -> "CrossValidation":
    terminal.print_status("Loading TensorFlow ...")
    import yaml

    from modules.reporting.sound import embed
    from pipeline.cross_validation import report as fold_report  # takes seconds
    from pipeline.cross_validation import run as cross_validation
    from pipeline.run_lock import exclusive

    config = chosen.config
    with exclusive(root):
        result = cross_validation.run(
            config,
            data=data,
            root=root,
            folds=chosen.folds,
            leave_corpus_out=chosen.leave_corpus_out,
            protocol=chosen.protocol,
        )
        command = shlex.join(["ser", *sys.argv[1:]])
        text = yaml.safe_dump(config.to_dict(), sort_keys=False)
        wrong = result.evaluation.errors[: config.report.audio_clips]
        sounds = embed([each.path for each in wrong], data)
        paths = fold_report.write(result, root, name=config.name, command=command, config=text, sounds=sounds)
    terminal.print_status(f"Written: {', '.join(map(str, paths))}")
    return result


def _print(result: "CrossValidation") -> None:
    from pipeline.cross_validation.report import caution, fold_means, fold_rows, protocol_line

    evaluation = result.evaluation
    console = terminal.console()
    if line := protocol_line(result):
        terminal.print_line(line)
    folds = terminal.table("fold", numbers=("clips", "UAR", "interval", "accuracy", "epochs"))
    for row in fold_rows(result):
        folds.add_row(*row)
    console.print(folds)
    metrics = terminal.table(
        f"all {evaluation.clips} clips, {evaluation.speakers} speakers", numbers=("value", "95 % interval")
    )
    for metric in evaluation.metrics:
        metrics.add_row(*metric.texts)
    console.print(metrics)
    terminal.print_line(fold_means(result))
    if text := caution(result):
        terminal.print_line(text)
