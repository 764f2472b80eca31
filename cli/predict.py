"""``ser predict``: the emotion of recordings, from a running server or from the last pushed model."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import answers, terminal
from cli.errors import CommandFailed, Refused
from cli.exits import ExitCode
from cli.options import ADDRESS_HELP, CaFile, ModelName, require_finite, require_text
from cli.recordings import Recording, Unusable, gather
from modules.common import addresses
from serving.server import command

if TYPE_CHECKING:
    from serving.client import Audio, Client, Prediction, Segment

    _Question = Callable[[Audio], Sequence[Prediction | Segment]]

app = typer.Typer(add_completion=False)

_DEFAULT_PORT = 8500
_DEFAULT_ADDRESS = f"localhost:{_DEFAULT_PORT}"
_MAX_VERSION = 2**63 - 1
_CONNECT_SEC = 1.0
_LOADING_SEC = 120.0


@app.command()
def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Recordings, local or gs://, folders of recordings at any depth, or - for standard input.",
            show_default=False,
        ),
    ],
    address: Annotated[
        str | None, typer.Option(help=ADDRESS_HELP, show_default=f"{_DEFAULT_ADDRESS}, or the last pushed model")
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Predict each window of each recording.")] = False,
    segments: Annotated[
        bool, typer.Option("--segments", help="Predict the parts of each recording that have one emotion.")
    ] = False,
    channel: Annotated[
        int | None, typer.Option(min=1, help="Number of the channel to use.", show_default="the mean of all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per recording and line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row of CSV per recording, window or segment.")] = False,
    model: ModelName = "ser",
    version: Annotated[
        int | None, typer.Option(min=1, max=_MAX_VERSION, help="Version to use.", show_default="the newest")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Label of the version to use, such as canary.", callback=require_text)
    ] = None,
    timeout_sec: Annotated[
        float, typer.Option(min=0.001, help="Deadline of one request, in seconds.", callback=require_finite)
    ] = 10.0,
    ca_file: CaFile = None,
    model_base_path: Annotated[
        str | None,
        typer.Option(help="Folder of versions, local or gs://, to load the newest from in place of using a server."),
    ] = None,
) -> None:
    """Predict the emotion of recordings. Exit code 0: each has an answer. 5: some have. 1 or 2: none has."""
    _require_one("--version", version, "--label", label)
    _require_one("--address", address, "--model-base-path", model_base_path)
    _require_one("--json", as_json or None, "--csv", as_csv or None)
    _require_one("--timeline", timeline or None, "--segments", segments or None)
    recordings = list(gather(files, channel=channel))
    output = _output(as_json=as_json, as_csv=as_csv, times=timeline or segments, bars=len(recordings) == 1)
    if not any(isinstance(recording, Recording) for recording in recordings):
        for recording in recordings:
            _report(recording, output)
        output.end()
        raise typer.Exit(_summarise(answered=0, failed=len(recordings), asked=False))
    from serving.client import Client

    with (
        _server(address, model_base_path) as server,
        Client(server, model=model, version=version, label=label, timeout_sec=timeout_sec, ca_file=ca_file) as client,
    ):
        question = _question(client, channel, timeline=timeline, segments=segments)
        answered = sum(_answer(question, server, recording, output) for recording in recordings)
    output.end()
    raise typer.Exit(_summarise(answered=answered, failed=len(recordings) - answered))


def _require_one(first: str, first_value: object, second: str, second_value: object) -> None:
    if first_value is not None and second_value is not None:
        raise Refused(f"{first} and {second} were both given; give at most one")


def _output(*, as_json: bool, as_csv: bool, times: bool, bars: bool) -> answers.Output:
    if as_json:
        return answers.Json()
    return answers.Csv(times=times) if as_csv else answers.Text(bars=bars)


def _question(client: "Client", channel: int | None, *, timeline: bool, segments: bool) -> "_Question":
    """Return the function that sends a recording."""
    if timeline:
        return lambda audio: list(client.timeline(audio, channel=channel))
    if segments:
        return lambda audio: list(client.segments(audio, channel=channel))
    return lambda audio: [client.predict(audio, channel=channel)]


def _answer(question: "_Question", address: str, recording: Recording | Unusable, output: answers.Output) -> bool:
    """Print the answer to a recording or its error; return whether it has an answer."""
    from serving.client import AudioError, DeadlineExceeded, InvalidRequest, Overloaded, ServerUnreachable

    if isinstance(recording, Recording):
        try:
            output.answer(recording.name, question(recording.audio))
            return True
        except (AudioError, DeadlineExceeded, InvalidRequest, Overloaded) as error:
            recording = Unusable(recording.name, error.code, str(error))
        except ServerUnreachable as error:
            raise CommandFailed(
                f"no server answers at {address} ({error.details}); start one with `ser serve`, or name another"
            ) from error
    _report(recording, output)
    return False


def _report(recording: Recording | Unusable, output: answers.Output) -> None:
    if isinstance(recording, Unusable):
        output.failed(recording)
        named = recording.name in recording.message or not recording.name
        terminal.print_error("ser", recording.message if named else f"{recording.name}: {recording.message}")


def _summarise(*, answered: int, failed: int, asked: bool = True) -> ExitCode:
    """Print how many recordings have an answer, where there are several, and return the exit code."""
    if answered + failed > 1:
        terminal.print_status(f"{answered + failed} recordings: {answered} with an answer, {failed} with an error")
    if not failed:
        return ExitCode.DONE
    if answered:
        return ExitCode.PARTLY
    return ExitCode.FAILED if asked else ExitCode.REFUSED


@contextlib.contextmanager
def _server(address: str | None, model_base_path: str | None) -> Iterator[str]:
    """Yield the address of the server: the given one, the local one, or one that runs as long as the context."""
    if model_base_path is None and (address is not None or _is_listening(_DEFAULT_PORT)):
        yield address or _DEFAULT_ADDRESS
        return
    from serving.server.subprocess_server import served

    base_path = model_base_path or _last_pushed()
    command.require_folder(base_path)
    terminal.print_status(f"Loading the newest model below {base_path} ...")
    with served(addresses.absolute(base_path), timeout_sec=_LOADING_SEC) as started:
        yield started


def _is_listening(port: int) -> bool:
    try:
        with socket.create_connection(("localhost", port), timeout=_CONNECT_SEC):
            return True
    except OSError:
        return False


def _last_pushed() -> str:
    """Return the folder of pushed models, since no server listens."""
    base_path = Path(command.DEFAULT_BASE_PATH)
    versions = [int(path.name) for path in base_path.glob("[0-9]*") if path.name.isdecimal()]
    if not versions:
        raise CommandFailed(
            f"no server answers at {_DEFAULT_ADDRESS}, and {base_path} has no pushed model; run the pipeline, or name "
            "a server with --address or a folder of versions with --model-base-path"
        )
    terminal.print_status(
        f"No server answers at {_DEFAULT_ADDRESS}: using the last pushed model, version {max(versions)}."
    )
    return command.DEFAULT_BASE_PATH
