"""``ser predict``, ``ser serve`` and ``ser ui``: ask a model, serve one, look at one."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.bar import Bar
from rich.table import Table

from cli import terminal
from cli.errors import CommandFailed
from modules.common import addresses

if TYPE_CHECKING:
    from serving.client import Client, Prediction, Segment

predict_app = typer.Typer(add_completion=False)
serve_app = typer.Typer(add_completion=False)
ui_app = typer.Typer(add_completion=False)

DEFAULT_BASE_PATH = "output/serving"

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
    timeline: Annotated[bool, typer.Option("--timeline", help="Follow each recording from window to window.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per recording and line.")] = False,
    model: Annotated[str, typer.Option(help="Name the model is served under.")] = "ser",
    version: Annotated[int | None, typer.Option(help="Ask this version.", show_default="the newest")] = None,
    label: Annotated[str | None, typer.Option(help="Ask the version with this label, such as canary.")] = None,
    timeout_sec: Annotated[float, typer.Option(help="Deadline of one request.")] = 10.0,
    ca_file: Annotated[Path | None, typer.Option(help="Certificates in PEM to trust over TLS.")] = None,
    model_base_path: Annotated[
        str | None,
        typer.Option(help="Ask no running server: start one on this folder, local or gs://, for this question alone."),
    ] = None,
) -> None:
    """Say which emotion is heard in recordings."""
    from serving.client import AddressError, AudioError, Client, ServerUnreachable, ServingError

    if version is not None and label is not None:
        raise CommandFailed("--version and --label were both given; give at most one")
    bad_files = 0
    try:
        with (
            _server(address, model_base_path) as asked,
            Client(
                asked, model=model, version=version, label=label, timeout_sec=timeout_sec, ca_file=ca_file
            ) as client,
        ):
            for file in files:
                try:
                    _show(file, _listen(client, file, timeline), as_json=as_json)
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
def serve(
    model_base_path: Annotated[
        str | None,
        typer.Option(help="Folder, local or gs://, with a numbered folder per version.", show_default="output/serving"),
    ] = None,
    model_name: Annotated[str, typer.Option(help="Name to serve the model under.")] = "ser",
    model_config_file: Annotated[Path | None, typer.Option(help="TF Serving's models.config.")] = None,
    batching_parameters_file: Annotated[
        Path | None, typer.Option(help="TF Serving's batching parameters.", show_default="no batching")
    ] = None,
    monitoring_config_file: Annotated[
        Path | None, typer.Option(help="TF Serving's monitoring configuration.", show_default="metrics are exported")
    ] = None,
    host: Annotated[str, typer.Option(help="Interface to listen on; the default is reached from here alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="For gRPC.")] = 8500,
    rest_api_port: Annotated[int, typer.Option(help="For REST and metrics.")] = 8501,
    max_audio_sec: Annotated[float, typer.Option(help="Longest recording in one request.")] = 120.0,
    max_request_mb: Annotated[int, typer.Option(help="Largest request.")] = 32,
    drain_sec: Annotated[float, typer.Option(help="Time that requests in flight have after SIGTERM.")] = 10.0,
    tls_certificate_file: Annotated[Path | None, typer.Option(help="PEM; switches TLS on.")] = None,
    tls_key_file: Annotated[Path | None, typer.Option(help="PEM.")] = None,
    request_log_dir: Annotated[
        Path | None, typer.Option(help="Write sampled requests here.", show_default="none are written")
    ] = None,
    request_log_rate: Annotated[float, typer.Option(help="Share of requests to write.")] = 0.01,
    request_log_max_mb: Annotated[int, typer.Option(help="Bound on the request log; the oldest go first.")] = 256,
) -> None:
    """Serve a pushed model as TF Serving does, for development. New versions are picked up while it runs."""
    base_path = model_base_path or (None if model_config_file else DEFAULT_BASE_PATH)
    if base_path:
        _require_folder(base_path)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # Only now: TensorFlow takes seconds, and reads the variable above.
    from serving.server import app as server
    from serving.server.errors import Fault
    from serving.server.options import ConfigError, ServerOptions

    try:
        options = ServerOptions(
            host=host,
            port=port,
            rest_api_port=rest_api_port,
            model_name=model_name,
            model_base_path=base_path,
            model_config_file=model_config_file,
            batching_parameters_file=batching_parameters_file,
            monitoring_config_file=monitoring_config_file,
            max_request_bytes=max_request_mb << 20,
            max_audio_sec=max_audio_sec,
            drain_sec=drain_sec,
            tls_certificate_file=tls_certificate_file,
            tls_key_file=tls_key_file,
            request_log_dir=request_log_dir,
            request_log_rate=request_log_rate,
            request_log_max_bytes=request_log_max_mb << 20,
        )
        asyncio.run(server.serve(options))
    except (ConfigError, Fault, OSError, RuntimeError) as error:  # gRPC says RuntimeError when the port is taken
        raise CommandFailed(f"cannot serve: {error}") from error


@ui_app.command()
def ui(
    address: Address = "localhost:8500",
    port: Annotated[int, typer.Option(help="Where the page is served, on this machine alone.")] = 8510,
) -> None:
    """Open a web page that records or takes a file and shows what the model hears."""
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
    os.execv(sys.executable, command)  # this process is no longer needed, and signals reach the page directly


@contextlib.contextmanager
def _server(address: str, model_base_path: str | None) -> Iterator[str]:
    """The address to ask: ``address``, or that of a server that lives as long as the context."""
    if model_base_path is None:
        yield address
        return
    from serving.server.subprocess_server import NotServing, served

    _require_folder(model_base_path)
    print(f"ser: loading the newest model below {model_base_path} ...", file=sys.stderr)
    try:
        with served(addresses.absolute(model_base_path), timeout_sec=_LOADING_SEC) as started:
            yield started
    except NotServing as error:
        raise CommandFailed(str(error)) from error


def _require_folder(model_base_path: str) -> None:
    try:
        found = addresses.is_folder(model_base_path)
    except OSError as error:
        raise CommandFailed(f"cannot read {model_base_path}: {error}") from error
    if not found:
        raise CommandFailed(
            f"there is no folder {model_base_path}. Run the pipeline first, which pushes there, or name the folder of "
            "versions with --model-base-path."
        )


def _listen(client: "Client", file: str, timeline: bool) -> "Sequence[Prediction | Segment]":
    return list(client.timeline(file)) if timeline else [client.predict(file)]


def _show(file: str, found: "Sequence[Prediction | Segment]", *, as_json: bool) -> None:
    from serving.client import Segment

    segments = [prediction for prediction in found if isinstance(prediction, Segment)]
    if as_json:
        print(json.dumps({"file": file} | _plain(found, segments)))
    elif segments:
        terminal.say(file)
        terminal.console().print(_timeline_table(segments))
    else:
        for prediction in found:
            version = "" if prediction.model_version is None else f", model version {prediction.model_version}"
            terminal.say(f"{file}: {prediction.emotion}{version}")
            terminal.console().print(_bars(prediction))


def _plain(found: "Sequence[Prediction]", segments: "Sequence[Segment]") -> dict[str, object]:
    if segments:
        return {"segments": [dataclasses.asdict(segment) for segment in segments]}
    return dataclasses.asdict(found[0]) if found else {"segments": []}


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
