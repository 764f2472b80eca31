"""``ser predict``: the emotion of recordings, from a running server or from the last pushed model."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli import answers, model_server, terminal
from cli.errors import CommandFailed, Refused
from cli.exits import ExitCode
from cli.model_server import Address, ModelBasePath
from cli.options import CaFile, ModelName, require_finite, require_text
from cli.recordings import Recording, Unusable, gather

if TYPE_CHECKING:
    from serving.client import Audio, Client, Prediction, Segment

    _Question = Callable[[Audio], Sequence[Prediction | Segment]]

app = typer.Typer(add_completion=False)

_MAX_VERSION = 2**63 - 1


@app.command()
def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Recordings, local or gs://, folders of recordings at any depth, or - for standard input.",
            show_default=False,
        ),
    ],
    address: Address = None,
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
    model_base_path: ModelBasePath = None,
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
        model_server.server(address, model_base_path) as place,
        Client(place, model=model, version=version, label=label, timeout_sec=timeout_sec, ca_file=ca_file) as client,
    ):
        question = _question(client, channel, timeline=timeline, segments=segments)
        answered = sum(_answer(question, place, recording, output) for recording in recordings)
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
