"""Recordings that a command line names: files, folders and standard input, looked at before a model is loaded."""

import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cli.errors import Refused
from components.audio_example_gen.corpora import is_hidden
from modules.audio import formats
from modules.common import addresses

STANDARD_INPUT = "-"


class Recording(NamedTuple):
    """A recording that can be sent.

    Attributes:
        name: Name in the output.
        audio: Path, address or content.
    """

    name: str
    audio: str | bytes


class Unusable(NamedTuple):
    """A recording that cannot be used.

    Attributes:
        name: Name in the output.
        code: Stable code of the error.
        message: What was found, what is allowed and what to do next.
    """

    name: str
    code: str
    message: str


def gather(places: Iterable[str], *, channel: int | None = None) -> Iterator[Recording | Unusable]:
    """Yield each recording that the places name, in their order; files of a folder by name.

    Args:
        places: Files, folders, addresses in a bucket, or ``-`` for standard input.
        channel: Number of the channel that will be used, from 1; ``None`` for the mean of all.
    """
    for place in dict.fromkeys(places):
        try:
            yield from (_checked(each, channel) for each in _at(place))
        except Refused as error:
            yield Unusable(place, error.code, str(error))
        except OSError as error:
            yield Unusable(place, Refused.code, f"{place}: {error.strerror or error}; name another recording")


def sound_files(folder: str) -> list[str]:
    """Return the sound files below a folder, at any depth, sorted.

    Args:
        folder: Folder, local or ``gs://``.

    Raises:
        Refused: There is none.
        OSError: It cannot be read.
    """
    names = (name for name in addresses.files(folder) if not is_hidden(name) and formats.is_sound(name))
    found = [f"{folder.rstrip('/')}/{name}" for name in names]
    if not found:
        raise no_recordings(folder)
    return found


def no_recordings(folder: str) -> Refused:
    """Return the error of a folder without a recording, whatever it holds otherwise.

    Args:
        folder: Folder, local or ``gs://``.
    """
    ends = ", ".join(formats.suffixes())
    return Refused(f"{folder} holds no recording; names that end in {ends} are read; name the folder with recordings")


def _at(place: str) -> Iterator[Recording]:
    if place == STANDARD_INPUT:
        yield Recording(STANDARD_INPUT, _read_standard_input())
    elif addresses.is_folder(place) and place:
        yield from (Recording(file, file) for file in sound_files(place))
    else:
        if not addresses.in_bucket(place):
            _require_file(place)
        yield Recording(place, place)


def _checked(recording: Recording, channel: int | None) -> Recording | Unusable:
    """Return the recording if it can be read; one of a bucket is read when it is sent."""
    from serving.client import AudioError
    from serving.client.recordings import open_long

    if addresses.in_bucket(recording.name):
        return recording
    try:
        open_long(recording.audio, channel=channel).close()
    except AudioError as error:
        return Unusable(recording.name, error.code, str(error))
    return recording


def _require_file(place: str) -> None:
    if not place:
        raise Refused("the name of a recording is empty; name files, folders or - for standard input")
    if not stat.S_ISREG(Path(place).stat().st_mode):
        raise Refused(f"{place} is neither a file nor a folder; name a recording")


def _read_standard_input() -> bytes:
    if sys.stdin.isatty():
        raise Refused("standard input is a terminal; pipe a recording into the command, or name a file")
    return sys.stdin.buffer.read()
