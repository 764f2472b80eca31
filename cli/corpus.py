"""``ser corpus``: make, check and export recordings and their examples."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cli import terminal
from cli.errors import CommandFailed, Refused
from cli.exits import ExitCode
from cli.folders import require_folder, require_output, require_output_file
from cli.options import ConfigFile, Overrides
from cli.terminal import counted
from modules.common import addresses
from modules.common.native_output import discarded_native_stderr

if TYPE_CHECKING:
    from components.audio_example_gen.corpora import Rejected
    from components.audio_example_gen.corpora.scan import ScanReport, Sound
    from pipeline.forget import Model

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make the demo corpus; scan, verify, export and forget recordings."
)

Root = Annotated[Path, typer.Option(help="Output folder of the runs.")]
Examples = Annotated[
    str | None,
    typer.Option(help="Folder of an ingestion's examples, local or gs://.", show_default="the newest of --root"),
]
_OUTPUT = Path("output")


@app.command()
def scan(
    folder: Annotated[str, typer.Argument(help="Folder with one corpus or several, at any depth; local or gs://.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Print clips per corpus, emotion and speaker, duplicates, unusable files, and what a run would fail of."""
    require_folder(folder)
    # Imported here: numpy and libsndfile take longer to load than `ser corpus --help` takes to answer.
    from cli.recordings import no_recordings
    from components.audio_example_gen.corpora.scan import scan as scan_folder
    from components.audio_example_gen.outlook import outlook
    from pipeline.config import load_config

    settings = load_config(config, overrides=overrides or [], environ=os.environ)
    try:
        with _progress("Listening") as progress:
            report = scan_folder(folder, labels=settings.labels, limits=settings.limits, progress=progress)
    except OSError as error:
        raise CommandFailed(f"cannot read {folder}: {error}") from error
    ingest = settings.ingest_settings
    clips = [sound.clip for sound in report.sounds]
    known = clips and not ingest.in_spans
    expected = outlook(clips, unusable=len(report.rejected), settings=ingest) if known else ()
    _print_report(report, settings.labels.emotions, expected)
    if not report.sounds and not report.rejected and not report.dropped:
        raise no_recordings(folder)
    if not report.sounds:
        raise Refused(f"{folder} holds no recording that can be used; the reasons are above")


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder to write: new, empty, or an earlier demo corpus.")],
    clips: Annotated[int, typer.Option(help="Number of clips, balanced over 24 speakers and 7 emotions.")] = 672,
    seed: Annotated[int, typer.Option(help="Seed; equal seeds give equal bytes.")] = 0,
) -> None:
    """Synthesise the demo corpus, in RAVDESS's layout. Nothing measured on it is accuracy on human speech."""
    require_output(out, option="--out")
    from modules.demo_corpus.corpus import write_corpus

    try:
        with _progress("Synthesising") as progress:
            written = write_corpus(out, clips=clips, seed=seed, progress=progress)
    except ValueError as error:
        raise Refused(str(error)) from error
    terminal.print_line(f"{out}: {clips} synthetic clips, {'written' if written else 'already there'}")


@app.command()
def arrive(
    reservoir: Annotated[str, typer.Option(help="Folder of recordings that have not arrived yet; local or gs://.")],
    into: Annotated[str, typer.Option(help="Folder of the spans, local or gs://; made when missing.")],
    clips: Annotated[int, typer.Option(help="Number of clips, with each emotion and speaker in proportion.")],
    seed: Annotated[int, typer.Option(help="Seed; another seed draws another batch.")] = 0,
) -> None:
    """Move a balanced batch from a reservoir into the next span-K, as if it had just been recorded."""
    require_folder(reservoir, option="--reservoir")
    if not addresses.in_bucket(into):
        require_output(Path(into), option="--into")
    from components.audio_example_gen.corpora.arrive import arrive as move_batch

    try:
        span = move_batch(reservoir, into, clips=clips, seed=seed)
    except UnicodeError as error:
        raise Refused(str(error)) from error
    terminal.print_line(f"{span}: {counted(clips, 'clip')}")


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Parquet file to write or replace.")],
    examples: Examples = None,
    root: Root = _OUTPUT,
) -> None:
    """Write features and labels of all examples of a run to a Parquet file."""
    require_output_file(out, option="--out")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from components.audio_example_gen.data_version import newest_examples

    folder = examples or newest_examples(str(root))
    out.parent.mkdir(parents=True, exist_ok=True)
    with discarded_native_stderr():
        from components.audio_example_gen.parquet import export as write_table

        written = write_table(folder, out)
    terminal.print_line(f"{out}: {written} examples of {folder}")


@app.command()
def verify(
    data: Annotated[
        str | None,
        typer.Option(help="Folder of recordings, local or gs://.", show_default="the folder that the run read"),
    ] = None,
    examples: Examples = None,
    root: Root = _OUTPUT,
) -> None:
    """Compare a folder with the recordings that a run read, by their SHA-256 and labels.

    Exit code 0: the same. 3: recordings are missing, changed, relabelled or additional.
    """
    from components.audio_example_gen.data_version import compare, newest_examples, read

    version = read(examples or newest_examples(str(root)))
    folder = data or version.root
    require_folder(folder, option="--data")
    with _progress("Reading") as progress:
        differences = compare(version, folder, progress=progress)
    for kind, paths in dataclasses.asdict(differences).items():
        _print_list(kind.capitalize(), paths)
    if differences:
        terminal.print_line(f"\n{folder} is not the version of the data that the run read")
        raise typer.Exit(ExitCode.DIFFERENT)
    terminal.print_line(f"{folder}: the {counted(len(version.clips), 'recording')} that the run read")


@app.command()
def forget(
    speaker: Annotated[str, typer.Argument(help="Id of the speaker, as `ser corpus scan` prints it.")],
    data: Annotated[list[str], typer.Option(help="Folder of recordings, local or gs://; may be repeated.")],
    root: Root = _OUTPUT,
    request_log_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a request log; its entries have no names, so all of them are removed."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it the command only lists.")] = False,
) -> None:
    """Remove recordings, examples, reports and logs of one speaker, and name the models that had them."""
    for folder in data:
        require_folder(folder, option="--data")
    from pipeline import forget as deletion  # imports ML Metadata

    act = deletion.carry_out if yes else deletion.plan
    folders = [addresses.absolute(folder) for folder in data]
    found = act(speaker, data=folders, root=root, request_logs=request_log_dir or [])
    _print_list("Recordings", found.recordings)
    _print_list("Tables, of which the speaker's rows are removed", found.tables)
    _print_list("Examples, reports and results of runs", map(str, found.derived))
    _print_list("Request logs", map(str, found.logs))
    _print_list("Sound files of unknown speakers, which are kept: check them", found.unknown)
    _print_list("Models, which are kept", (_model_line(model) for model in found.models))
    if any(map(addresses.in_bucket, found.recordings)):
        terminal.print_line("\nA bucket with object versioning keeps old versions: gcloud storage rm --all-versions")
    what = f"{found.removes} recordings, tables, folders and files of {speaker}"
    terminal.print_line(f"\n{what} were removed" if yes else f"\n{what}; nothing was removed, repeat with --yes")


def _model_line(model: "Model") -> str:
    use = "trained on the speaker" if model.trained else "evaluated on the speaker"
    pushed = f", pushed as {', '.join(model.versions)}" if model.versions else ""
    return f"{model.address}: {use}{pushed}"


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if standard error is a terminal."""
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_report(report: "ScanReport", emotions: Sequence[str], expected: Iterable[str]) -> None:
    if report.sounds:
        _print_counts(
            "Clips by corpus", report.sounds, emotions, key=lambda sound: (sound.clip.corpus,), names=("corpus",)
        )
        _print_counts(
            "Clips by speaker",
            report.sounds,
            emotions,
            key=lambda sound: (sound.clip.speaker, sound.clip.sex),
            names=("speaker", "sex"),
        )
    _print_list("Same sound", (" = ".join(group) for group in report.duplicates))
    _print_list(
        "Labels that are no emotion of the model",
        (f"{label}: {counted(n, 'clip')}" for label, n in report.dropped.items()),
    )
    _print_list("Cannot be used", _by_reason(report.rejected))
    _print_list("A run of this folder", expected)
    hours = sum(sound.duration_sec for sound in report.sounds) / 3600
    speakers = len({sound.clip.speaker for sound in report.sounds})
    usable = f"{counted(len(report.sounds), 'clip')} ({hours:.2f} h) of {counted(speakers, 'speaker')}"
    terminal.print_line(f"\n{usable}; {counted(len(report.rejected), 'file')} cannot be used")


def _by_reason(rejected: "Iterable[Rejected]") -> Iterator[str]:
    """Yield a line for each file; a reason that several files have stands above them once."""
    paths: dict[str, list[str]] = collections.defaultdict(list)
    for file in rejected:
        paths[file.reason].append(file.path)
    for reason, files in paths.items():
        if len(files) == 1:
            yield f"{files[0]}: {reason}"
        else:
            yield f"{len(files)} files: {reason}"
            yield from (f"  {file}" for file in files)


def _print_counts(
    title: str,
    sounds: "Iterable[Sound]",
    emotions: Sequence[str],
    *,
    key: "Callable[[Sound], tuple[str, ...]]",
    names: tuple[str, ...],
) -> None:
    rows: dict[tuple[str, ...], list[Sound]] = collections.defaultdict(list)
    for sound in sounds:
        rows[key(sound)].append(sound)
    table = terminal.table(*names, numbers=(*emotions, "clips", "hours"), title=title)
    for row, members in sorted(rows.items()):
        counts = collections.Counter(sound.clip.emotion for sound in members)
        hours = sum(sound.duration_sec for sound in members) / 3600
        numbers = [str(counts[emotion]) for emotion in emotions]
        table.add_row(*map(escape, row), *numbers, str(len(members)), f"{hours:.2f}")
    terminal.console().print(table)


def _print_list(title: str, lines: Iterable[str]) -> None:
    for number, line in enumerate(lines):
        if number == 0:
            terminal.print_line(f"\n{title}:")
        terminal.print_line(f"  {line}")
