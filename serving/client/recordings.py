"""Conversion of recordings to the WAV bytes that the model takes. The model's own limits decide which are usable."""

import io
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import soundfile

from modules.audio import containers, riff
from modules.audio.decoding import (
    DEFAULT_LIMITS,
    NOT_EMPTY,
    WIDEST_LIMITS,
    AudioCode,
    BadAudio,
    blocks,
    check,
    is_exact,
    is_mpeg,
    open_sound,
)
from modules.common import addresses
from serving.client.errors import AudioError

Audio: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | tuple[np.ndarray, int]
"""A sound file, local or in a bucket, the bytes of one, a file opened for reading, or samples with their rate in Hz.

Samples are of shape ``[samples]`` or ``[samples, channels]``, floating point in ±1 or int16.
"""

_TAKEN = "a path, the bytes of a file, a file opened in binary mode, or a tuple (samples, rate in Hz)"
_FULL_SCALE = 32_768
_MAX_RATE_HZ = 1 << 31
_MEAN_BYTES = 4  # of a frame: one channel in single precision
_IN_MEMORY_BYTES = 256 * 1024 * 1024


def to_wav(
    audio: Audio, *, channel: int | None = None, max_sec: float = math.inf, max_bytes: float = math.inf
) -> bytes:
    """Return the whole recording as WAV, with its own rate and all its channels, or one of them.

    The model averages channels and resamples as for training. Doing so here, and rounding again, would be audible.

    Args:
        audio: The recording.
        channel: Number of the channel to use, from 1; ``None`` for all.
        max_sec: Longest recording in seconds.
        max_bytes: Largest WAV file in bytes.

    Raises:
        AudioError: The recording cannot be read, no model can use it, or it is longer or larger than that.
    """
    if channel is not None:
        with open_long(audio, channel=channel) as sound, _naming(audio):
            _require_length(sound.frames / sound.samplerate, max_sec)
            wav = read_wav(sound, start_frame=0, frames=sound.frames)
            _require_size(len(wav), max_bytes)
            return wav
    with _naming(audio):
        if _is_large(audio):
            _require_size(_IN_MEMORY_BYTES, max_bytes)
        encoded = _nonempty(audio)
        with open_sound(encoded, WIDEST_LIMITS) as sound:
            check(sound, WIDEST_LIMITS)
        with open_sound(encoded, WIDEST_LIMITS) as sound:
            if is_exact(sound) or is_mpeg(sound):
                _require_length(sound.frames / sound.samplerate, max_sec)
            if riff.is_wav(encoded) and (sound.format, sound.subtype) == ("WAV", "PCM_16"):
                wav = _with_data_size(encoded)
            else:
                wav = _encode(np.concatenate(list(blocks(sound))), sound.samplerate)
        _require_size(len(wav), max_bytes)
        return wav


def reusable(audio: Audio) -> Audio:
    """Return the recording in a form that can be read twice: the content of an open file.

    Args:
        audio: The recording.

    Raises:
        AudioError: The file cannot be read.
    """
    return _file_bytes(audio) if hasattr(audio, "read") else audio


def open_long(audio: Audio, *, channel: int | None = None) -> soundfile.SoundFile:
    """Open a recording of any length for :func:`read_wav`; close it after use.

    Args:
        audio: The recording.
        channel: Number of the channel to use, from 1; ``None`` for all.

    Raises:
        AudioError: The recording cannot be read, or no model can use it.
    """
    with _naming(audio):
        sound = _open_on_disk(audio) if _is_large(audio) else open_sound(_nonempty(audio), WIDEST_LIMITS)
        if not is_exact(sound) or channel is not None:
            sound = _rewritten(sound, channel)
        check(sound, WIDEST_LIMITS)
        sound.seek(0)
        return sound


def read_wav(sound: soundfile.SoundFile, *, start_frame: int, frames: int) -> bytes:
    """Return a part of the recording as WAV, with all channels or, where that is smaller, their mean as floats.

    Args:
        sound: The open recording.
        start_frame: First frame of the part.
        frames: Number of frames; fewer at the end of the recording.

    Raises:
        AudioError: The recording is damaged.
    """
    try:
        sound.seek(start_frame)
        samples = sound.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        text = f"{AudioCode.UNREADABLE}: frame {start_frame} cannot be read: {error.error_string}"
        raise AudioError(AudioCode.UNREADABLE, text) from error
    if _is_averaged(sound):
        return _wav(samples.mean(axis=1), sound.samplerate, "FLOAT")
    return _encode(samples, sound.samplerate)


def bytes_per_frame(sound: soundfile.SoundFile) -> int:
    """Return the largest size in bytes of a frame in the output of :func:`read_wav`.

    Args:
        sound: The open recording.
    """
    return _MEAN_BYTES if _is_averaged(sound) else _all_channels_bytes(sound)


def _is_averaged(sound: soundfile.SoundFile) -> bool:
    return _all_channels_bytes(sound) > _MEAN_BYTES


def _all_channels_bytes(sound: soundfile.SoundFile) -> int:
    return sound.channels * (2 if sound.subtype.startswith("PCM") else 4)


def _require_length(seconds: float, max_sec: float) -> None:
    if seconds > max_sec:
        raise BadAudio(AudioCode.TOO_LONG, f"{seconds:.1f} s; one request takes {max_sec:g} s")


def _require_size(size: int, max_bytes: float) -> None:
    if size > max_bytes:
        raise BadAudio(AudioCode.TOO_LARGE, f"{size} bytes as WAV; one request takes {max_bytes}")


def _pick(block: np.ndarray, channel: int | None) -> np.ndarray:
    """Return the channel, float32 ``[frames, 1]``, of a block ``[frames, channels]``, or the block."""
    if channel is None:
        return block
    channels = block.shape[1]
    if not 1 <= channel <= channels:
        raise BadAudio(AudioCode.CHANNELS, f"channel {channel} of {channels}; name one from 1 to {channels}")
    return block[:, channel - 1 : channel]


@contextmanager
def _naming(audio: Audio) -> Iterator[None]:
    """Raise the errors of a recording with its name."""
    try:
        yield
    except BadAudio as error:
        raise AudioError(error.code, f"{name_of(audio)}: {error.reason}") from error


def _is_large(audio: Audio) -> bool:
    """Return whether the recording is a local file that should not be read into memory."""
    if not isinstance(audio, (str, os.PathLike)) or addresses.in_bucket(os.fspath(audio)):
        return False
    path = Path(audio)
    return path.is_file() and path.stat().st_size > _IN_MEMORY_BYTES


def _nonempty(audio: Audio) -> bytes:
    encoded = _file_bytes(audio)
    NOT_EMPTY.require(WIDEST_LIMITS, size=len(encoded))
    return encoded


def _open_on_disk(path: Any) -> soundfile.SoundFile:
    """Open a large file without reading it into memory."""
    try:
        return soundfile.SoundFile(os.open(path, os.O_RDONLY), closefd=True)  # by its name, .raw would be no error
    except (soundfile.LibsndfileError, OSError) as error:
        raise BadAudio(AudioCode.UNREADABLE, f"not a readable sound file: {error}") from error


def _rewritten(sound: soundfile.SoundFile, channel: int | None) -> soundfile.SoundFile:
    """Return the recording, or a channel, in a form of known length in which every position can be sought."""
    file = containers.spool()
    with (
        sound,
        soundfile.SoundFile(
            file, "w", sound.samplerate, 1 if channel else sound.channels, format="W64", subtype="FLOAT"
        ) as rewritten,
    ):
        for block in blocks(sound):
            rewritten.write(_pick(block, channel))
    file.seek(0)
    return soundfile.SoundFile(file)


def _with_data_size(wav: bytes) -> bytes:
    chunk = riff.data_chunk(wav)
    return riff.with_data_size(wav, chunk) if chunk else wav


def _file_bytes(audio: Audio) -> bytes:
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return bytes(audio)
    if isinstance(audio, tuple) and len(audio) == 2:
        return from_samples(*audio)
    if isinstance(audio, (str, os.PathLike)):
        return _read_path(os.fspath(audio))
    if hasattr(audio, "read"):
        return _read_open(audio)
    raise _unreadable(f"the recording is {_described(audio)}; it must be {_TAKEN}")


def _read_path(path: str | bytes) -> bytes:
    address = os.fsdecode(path)
    try:
        if not addresses.in_bucket(address) and not _is_readable(Path(address).stat().st_mode):
            raise _unreadable(f"{address} is not a file; give the path of a recording")
        return addresses.read_bytes(address)
    except (OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise _unreadable(f"cannot read {address!r}: {getattr(error, 'strerror', None) or error}") from error


def _is_readable(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)


def _read_open(file: Any) -> bytes:
    """Return all that an open file holds, wherever its position is."""
    try:
        if getattr(file, "seekable", lambda: False)():
            file.seek(0)
        content = file.read()
    except (OSError, ValueError) as error:
        raise _unreadable(f"cannot read {name_of(file)}: {error}") from error
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise _unreadable(f"{name_of(file)} gives {type(content).__name__}; open it in binary mode, as 'rb'")
    return bytes(content)


def _unreadable(text: str) -> AudioError:
    return AudioError(AudioCode.UNREADABLE, f"{AudioCode.UNREADABLE}: {text}")


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if isinstance(shape, tuple) else type(value).__name__


def name_of(audio: Audio) -> str:
    """Return the name of the recording in messages.

    Args:
        audio: The recording.
    """
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return f"{len(audio)} bytes"
    if isinstance(audio, tuple):
        return f"samples of shape {np.shape(audio[0])}" if audio and hasattr(audio[0], "shape") else "samples"
    if isinstance(audio, (str, os.PathLike)):
        return os.fsdecode(audio)
    name = getattr(audio, "name", None)
    return name if isinstance(name, str) else type(audio).__name__


def from_samples(samples: Any, rate_hz: Any) -> bytes:
    """Return samples as WAV.

    Args:
        samples: Of shape ``[samples]`` or ``[samples, channels]``, floating point in ±1 or int16.
        rate_hz: Sample rate in hertz.

    Raises:
        AudioError: They are something else.
    """
    if np.ndim(samples) == 0 or np.ndim(rate_hz) != 0:
        raise _unreadable(f"got ({_described(samples)}, {_described(rate_hz)}); it must be (samples, rate in Hz)")
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > samples.shape[0] > 0):
        raise _unreadable(f"samples have shape {samples.shape}; it must be [samples] or [samples, channels]")
    if samples.dtype != np.int16 and not np.issubdtype(samples.dtype, np.floating):
        raise _unreadable(f"samples are {samples.dtype}; they must be floating point in ±1, or int16")
    if not isinstance(rate_hz, (int, float, np.number)) or not 1 <= rate_hz < _MAX_RATE_HZ or int(rate_hz) != rate_hz:
        raise _unreadable(f"the sample rate is {rate_hz!r} Hz; it must be a whole number above 0")
    _require_full_scale(samples)
    return _encode(samples, int(rate_hz))


def _require_full_scale(samples: np.ndarray) -> None:
    """Refuse floats at the scale of int16, which a model may otherwise clip."""
    peak = float(np.max(np.abs(samples.astype(np.float64)), initial=0.0))
    if samples.dtype != np.int16 and np.isfinite(peak) and peak > DEFAULT_LIMITS.max_peak:
        raise AudioError(
            AudioCode.TOO_LOUD,
            f"samples of shape {samples.shape}: {AudioCode.TOO_LOUD}: the peak is {peak:.3g}; floats must be in ±1. "
            "Divide samples at the scale of int16 by 32768, or give them as int16",
        )


def _encode(samples: np.ndarray, rate_hz: int) -> bytes:
    """Return WAV of 16 bits, or of floats where samples beyond full scale would be clipped.

    Floats that were 16 bits before come out exactly as they were. libsndfile's own conversion would not do that: it
    multiplies by 32767 here and divided by 32768 there.
    """
    subtype = "PCM_16"
    if samples.dtype != np.int16:
        if np.max(np.abs(samples), initial=0.0) <= 1:
            samples = np.minimum(np.rint(samples * _FULL_SCALE), _FULL_SCALE - 1).astype(np.int16)
        else:  # also for NaN
            samples, subtype = samples.astype(np.float32), "FLOAT"
    return _wav(samples, rate_hz, subtype)


def _wav(samples: np.ndarray, rate_hz: int, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()
