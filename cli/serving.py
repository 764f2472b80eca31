"""``ser predict``, ``ser serve`` and ``ser ui``: use a served model, serve one, show one on a web page."""

import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.bar import Bar
from rich.table import Table

from cli import terminal
from cli.errors import CommandFailed
from modules.common import addresses
from serving.server import command

if TYPE_CHECKING:
    from serving.client import Client, Prediction, Segment

predict_app = typer.Typer(add_completion=False)
serve_app = typer.Typer(add_completion=False)
ui_app = typer.Typer(add_completion=False)

Address = Annotated[
    str, typer.Option(help="HOST:PORT, grpcs://HOST:PORT, http(s)://HOST[:PORT] or vertex://PROJECT/REGION/ENDPOINT.")
]
_BAR_WIDTH = 30
_LOADING_SEC = 120.0


@predict_app.command()
def predict(
    files: Annotated[
        list[str],
        typer.Argument(help="Recordings, local or gs://: WAV, FLAC, OGG, MP3 or AIFF.", show_default=False),
    ],
    address: Address = "localhost:8500",
    timeline: Annotated[bool, typer.Option("--timeline", help="Predict each window of each recording.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per recording and line.")] = False,
    model: Annotated[str, typer.Option(help="Name of the served model.")] = "ser",
    version: Annotated[int | None, typer.Option(help="Version to use.", show_default="the newest")] = None,
    label: Annotated[str | None, typer.Option(help="Label of the version to use, such as canary.")] = None,
    timeout_sec: Annotated[float, typer.Option(help="Deadline of one request, in seconds.")] = 10.0,
    ca_file: Annotated[Path | None, typer.Option(help="Certificates in PEM to trust over TLS.")] = None,
    model_base_path: Annotated[
        str | None,
        typer.Option(
            help="Start a server on this folder, local or gs://, for this command instead of using a running one."
        ),
    ] = None,
) -> None:
    """Predict the emotion of recordings."""
    from serving.client import AddressError, AudioError, Client, ServerUnreachable, ServingError

    if version is not None and label is not None:
        raise CommandFailed("--version and --label were both given; give at most one")
    bad_files = 0
    try:
        with (
            _server(address, model_base_path) as server_address,
            Client(
                server_address, model=model, version=version, label=label, timeout_sec=timeout_sec, ca_file=ca_file
            ) as client,
        ):
            for file in files:
                try:
                    _show(file, _predict(client, file, timeline), as_json=as_json)
                except AudioError as error:
                    bad_files += 1
                    print(f"ser: {error}", file=sys.stderr)
    except ServerUnreachable as error:
        raise CommandFailed(
            f"no server answers at {address}. Start one with `ser serve`, or name another with --address. "
            f"({error.details})"
        ) from error
    except (AddressError, ServingError) as error:
        raise CommandFailed(str(error)) from error
    if bad_files:
        raise CommandFailed(f"{bad_files} of {len(files)} recordings could not be used")


@serve_app.command()
@functools.wraps(command.serve)
def serve(**options: Any) -> None:
    """Run ``command.serve``."""
    command.serve(**options)


@ui_app.command()
def ui(
    address: Address = "localhost:8500",
    port: Annotated[int, typer.Option(help="Port of the page, on this machine alone.")] = 8510,
) -> None:
    """Open a web page that predicts the emotion of a new recording or a file."""
    import serving

    page = Path(serving.__file__).parent / "ui.py"
    options = {
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.fileWatcherType": "none",
        "client.toolbarMode": "minimal",
        "browser.gatherUsageStats": "false",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "streamlit", "run", str(page), *words, "--", "--address", address]
    os.execv(sys.executable, command)  # replaces this process, so that signals reach the page directly


@contextlib.contextmanager
def _server(address: str, model_base_path: str | None) -> Iterator[str]:
    """Yield ``address``, or the address of a server that runs as long as the context."""
    if model_base_path is None:
        yield address
        return
    from serving.server.subprocess_server import served

    command.require_folder(model_base_path)
    terminal.print_status(f"Loading the newest model below {model_base_path} ...")
    with served(addresses.absolute(model_base_path), timeout_sec=_LOADING_SEC) as started:
        yield started


def _predict(client: "Client", file: str, timeline: bool) -> "Sequence[Prediction | Segment]":
    return list(client.timeline(file)) if timeline else [client.predict(file)]


def _show(file: str, predictions: "Sequence[Prediction | Segment]", *, as_json: bool) -> None:
    from serving.client import Segment

    segments = [prediction for prediction in predictions if isinstance(prediction, Segment)]
    if as_json:
        print(json.dumps({"file": file} | _plain(predictions, segments)))
    elif segments:
        terminal.print_line(file)
        terminal.console().print(_timeline_table(segments))
    else:
        for prediction in predictions:
            version = "" if prediction.model_version is None else f", model version {prediction.model_version}"
            terminal.print_line(f"{file}: {prediction.emotion}{version}")
            terminal.console().print(_bars(prediction))


def _plain(predictions: "Sequence[Prediction]", segments: "Sequence[Segment]") -> dict[str, object]:
    if segments:
        return {"segments": [dataclasses.asdict(segment) for segment in segments]}
    return dataclasses.asdict(predictions[0]) if predictions else {"segments": []}


def _bars(prediction: "Prediction") -> Table:
    table = Table(box=None)
    for column in ("emotion", "", "probability"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for emotion, probability in _most_probable_first(prediction.probabilities):
        style = "bold" if emotion == prediction.emotion else ""
        table.add_row(emotion, Bar(1.0, 0.0, probability, width=_BAR_WIDTH), f"{probability:.1%}", style=style)
    return table


def _timeline_table(segments: "Iterable[Segment]") -> Table:
    table = Table(box=None)
    for column in ("from (s)", "to (s)", "emotion", "", "probability"):
        table.add_column(column, justify="left" if column in ("emotion", "") else "right")
    for segment in segments:
        probability = segment.probabilities[segment.emotion]
        times = (f"{segment.start_sec:.1f}", f"{segment.end_sec:.1f}")
        table.add_row(*times, segment.emotion, Bar(1.0, 0.0, probability, width=_BAR_WIDTH), f"{probability:.1%}")
    return table


def _most_probable_first(probabilities: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(probabilities.items(), key=lambda item: -item[1])
