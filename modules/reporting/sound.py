"""Sound of recordings inside a report."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import soundfile

from modules.audio.decoding import BadAudio, decode

_MAX_SEC = 10.0
_RATE_HZ = 22_050


def embed(paths: Iterable[str], folder: Path) -> dict[str, str]:
    """Return the start of each recording as an address of the scheme ``data:``, MP3, by its path.

    Recordings that cannot be read are left out.

    Args:
        paths: Paths relative to ``folder``.
        folder: Folder of the recordings.
    """
    sounds = {path: _address(folder / path) for path in paths}
    return {path: address for path, address in sounds.items() if address}


def _address(path: Path) -> str | None:
    import soxr

    try:
        recording = decode(path.read_bytes())
    except (OSError, BadAudio):
        return None
    start = recording.samples[: round(_MAX_SEC * recording.sample_rate_hz)]
    encoded = io.BytesIO()
    soundfile.write(encoded, soxr.resample(start, recording.sample_rate_hz, _RATE_HZ), _RATE_HZ, format="MP3")
    return f"data:audio/mpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
