"""``ser listen``: the emotion of sound that is still going on, from a microphone or standard input."""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from types import FrameType
from typing import IO, TYPE_CHECKING, Annotated, Self, cast

import typer

from cli import answers, model_server
from cli.errors import CommandFailed, Refused
from cli.model_server import Address, ModelBasePath
from cli.options import CaFile, ModelName, require_finite
from cli.recordings import STANDARD_INPUT

if TYPE_CHECKING:
    import numpy as np
    import soundfile

app = typer.Typer(add_completion=False)

_CHUNKS_PER_SEC = 10
_ARECORD = ("arecord", "--quiet", "--format=S16_LE", "--rate=16000", "--channels=1", "--file-type=wav", "-")


@app.command()
def listen(
    source: Annotated[
        str, typer.Argument(help="- for a WAV recording on standard input.", show_default="the microphone")
    ] = "",
    windows: Annotated[bool, typer.Option("--windows", help="Print each window in place of segments.")] = False,
    channel: Annotated[
        int | None, typer.Option(min=1, help="Number of the channel to use.", show_default="the mean of all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per segment and line.")] = False,
    address: Address = None,
    model: ModelName = "ser",
    timeout_sec: Annotated[
        float, typer.Option(min=0.001, help="Deadline of one request, in seconds.", callback=require_finite)
    ] = 10.0,
    ca_file: CaFile = None,
    model_base_path: ModelBasePath = None,
) -> None:
    """Predict the emotion of sound as it arrives, until it ends or Ctrl-C. The microphone needs arecord."""
    if source not in ("", STANDARD_INPUT):
        raise Refused(f"{source} is not live; use `ser predict --segments {source}`, or - for standard input")
    _require_there(source)
    from serving.client import AudioError, Client, ServingError, segments_of

    with (
        model_server.server(address, model_base_path) as place,
        Client(place, model=model, timeout_sec=timeout_sec, ca_file=ca_file) as client,
        _standard_input() if source else _microphone() as sound,
        _Interrupt() as interrupt,
    ):
        try:
            found = client.live(_chunks(sound, channel, interrupt), sound.samplerate)
            for segment in found if windows else segments_of(found):
                answers.print_live(segment, as_json=as_json)
        except (AudioError, ServingError) as error:
            raise CommandFailed(str(error)) from error


def _require_there(source: str) -> None:
    """Require a source of sound before a model is loaded."""
    if source and sys.stdin.isatty():
        raise Refused("standard input is a terminal; pipe a WAV recording into the command")
    if not source and not shutil.which(_ARECORD[0]):
        raise Refused(
            f"{_ARECORD[0]}, which records the microphone, is not installed; install it (Debian: alsa-utils), or pipe "
            "the WAV of another program into `ser listen -`"
        )


@contextlib.contextmanager
def _microphone() -> Iterator["soundfile.SoundFile"]:
    """Yield the sound of the default microphone, until Ctrl-C or the end of the context.

    Raises:
        CommandFailed: There is no microphone.
    """
    with tempfile.TemporaryFile() as log, subprocess.Popen(_ARECORD, stdout=subprocess.PIPE, stderr=log) as recorder:
        try:
            yield _opened(cast(IO[bytes], recorder.stdout).fileno())
        except Refused as error:
            log.seek(0)
            reason = log.read().decode(errors="replace").strip() or str(error)
            raise CommandFailed(f"the microphone cannot be recorded: {reason}; `arecord -l` lists devices") from error
        finally:
            recorder.terminate()


@contextlib.contextmanager
def _standard_input() -> Iterator["soundfile.SoundFile"]:
    yield _opened(sys.stdin.fileno())


def _opened(descriptor: int) -> "soundfile.SoundFile":
    """Open a WAV recording that cannot be sought and whose length may be unknown."""
    import soundfile

    try:
        return soundfile.SoundFile(descriptor, closefd=False)
    except (soundfile.LibsndfileError, OSError) as error:
        raise Refused(
            f"standard input cannot be read while it arrives: {error}; pipe WAV into the command, such as of "
            "`ffmpeg -i INPUT -f wav -`"
        ) from error


class _Interrupt:
    """Ctrl-C that ends the sound, not the command: the answers to what was heard are still printed.

    A second one stops the command.

    Attributes:
        pressed: Whether it was pressed while an answer was under way.
        waiting: Whether sound is awaited, which ends at once.
    """

    def __init__(self) -> None:
        self.pressed = self.waiting = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.waiting or self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


def _chunks(sound: "soundfile.SoundFile", channel: int | None, interrupt: _Interrupt) -> "Iterator[np.ndarray]":
    """Yield the samples as they arrive, float32 ``[samples, channels]``, until the end or Ctrl-C.

    Args:
        sound: The recording.
        channel: Number of the channel to use, from 1; ``None`` for all.
        interrupt: Ctrl-C.

    Raises:
        Refused: There is no such channel.
    """
    if channel is not None and channel > sound.channels:
        raise Refused(f"--channel is {channel}; the sound has {sound.channels}")
    while not interrupt.pressed:
        try:
            interrupt.waiting = True
            block = sound.read(sound.samplerate // _CHUNKS_PER_SEC, dtype="float32", always_2d=True)
            interrupt.waiting = False
        except KeyboardInterrupt:
            interrupt.waiting, interrupt.pressed = False, True
            return
        if not len(block):
            return
        yield block if channel is None else block[:, channel - 1 : channel]
