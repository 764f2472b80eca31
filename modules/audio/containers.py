"""Sound in formats that libsndfile does not read, such as M4A and WebM, by the optional PyAV (extra ``av``)."""

import functools
import importlib.util
import io
import tempfile
from typing import IO, TYPE_CHECKING

import soundfile

from modules.common.errors import SerError

if TYPE_CHECKING:
    import av

SUFFIXES = (".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".webm", ".mka", ".mkv", ".amr", ".aac", ".wma")
VIDEO_SUFFIXES = (".mp4", ".mov", ".3gp", ".mkv")
"""Those of them whose files usually hold pictures, too."""

INSTALL = "install PyAV: pip install av"
"""What to do where PyAV is missing."""

_IN_MEMORY_BYTES = 64 * 1024 * 1024


class Undecodable(SerError, ValueError):
    """PyAV cannot decode the file."""

    code = "audio.undecodable"


@functools.cache
def can_read() -> bool:
    """Return whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def convert(data: bytes, container: str, *, max_duration_sec: float) -> IO[bytes]:
    """Return the sound as an open file of float samples that libsndfile reads, with all its channels.

    Args:
        data: Content of the file.
        container: FFmpeg's name of the format. It is never guessed: some of FFmpeg's formats open other files.
        max_duration_sec: Duration after which decoding stops.

    Raises:
        Undecodable: The file has no sound, or is damaged.
    """
    import av

    try:
        with av.open(io.BytesIO(data), "r", format=container) as opened:
            if not opened.streams.audio:
                raise Undecodable("it has no sound")
            return _decoded(opened, max_duration_sec)
    except (av.error.FFmpegError, ValueError) as error:
        raise Undecodable(str(getattr(error, "strerror", None) or error)) from error


def spool() -> IO[bytes]:
    """Return a new file that is in memory while it is small; it is removed when nothing refers to it."""
    return tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)


def _decoded(opened: "av.container.InputContainer", max_duration_sec: float) -> IO[bytes]:
    import av

    stream = opened.streams.audio[0]
    resampler = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
    channels, rate_hz = stream.layout.nb_channels, stream.rate
    file = spool()
    with soundfile.SoundFile(file, "w", rate_hz, channels, format="W64", subtype="FLOAT") as sound:
        for frame in opened.decode(stream):
            for part in resampler.resample(frame):
                sound.write(part.to_ndarray().reshape(-1, channels))
            if sound.frames > max_duration_sec * rate_hz:
                break
    file.seek(0)
    return file
