"""Any recording, as the 16-bit WAV bytes that the model takes."""

import io
import os
from typing import Any, TypeAlias

import numpy as np
import soundfile

from modules.audio.decoding import DEFAULT_LIMITS, BadAudio, decode
from modules.common import addresses
from serving.client.errors import AudioError

Audio: TypeAlias = str | os.PathLike[str] | bytes | tuple[np.ndarray, int]
"""A file that libsndfile reads, local or in a bucket, the bytes of one, or samples with their rate in Hz.

Samples are of shape ``[samples]`` or ``[samples, channels]``, floating point in ±1 or int16.
"""

_FULL_SCALE = 32_768


def to_wav(audio: Audio) -> bytes:
    """The whole recording as 16-bit WAV, with its own rate and all its channels.

    The model averages channels and resamples as the training data were; to do it here and round again would be heard.

    Raises:
        AudioError: It cannot be read, or the model would refuse it; the message says why.
    """
    encoded = _file_bytes(audio)
    try:
        decode(encoded)
    except BadAudio as error:
        raise AudioError(f"{_name(audio)}: {error.reason}") from error
    with soundfile.SoundFile(io.BytesIO(encoded)) as sound:
        if (sound.format, sound.subtype) == ("WAV", "PCM_16"):
            return encoded
        return _encode(sound.read(dtype="float32", always_2d=True), sound.samplerate)


def open_long(audio: Audio) -> soundfile.SoundFile:
    """Opens a recording of any length for :func:`read_wav`; close it after use.

    Raises:
        AudioError: It cannot be read, or is empty.
    """
    local = isinstance(audio, (str, os.PathLike)) and not addresses.in_bucket(os.fspath(audio))
    file = audio if local else io.BytesIO(_file_bytes(audio))
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{_name(audio)}: not a readable sound file: {error}") from error
    if sound.frames == 0:
        sound.close()
        raise AudioError(f"{_name(audio)}: no samples: the data has length zero")
    return sound


def read_wav(sound: soundfile.SoundFile, *, start_frame: int, frames: int) -> bytes | None:
    """16-bit WAV of a part of the recording; ``None`` when the part is silent.

    Raises:
        AudioError: The part holds samples that are not finite numbers.
    """
    sound.seek(start_frame)
    samples = sound.read(frames, dtype="float32", always_2d=True)
    _require_finite(samples)
    if np.max(np.abs(samples.mean(axis=1)), initial=0.0) <= DEFAULT_LIMITS.silence_peak:
        return None
    return _encode(samples, sound.samplerate)


def _file_bytes(audio: Audio) -> bytes:
    if isinstance(audio, bytes):
        return audio
    if isinstance(audio, tuple):
        return _from_samples(*audio)
    try:
        return addresses.read_bytes(os.fspath(audio))
    except OSError as error:
        raise AudioError(f"cannot read {audio}: {error.strerror or error}") from error


def _name(audio: Audio) -> str:
    if isinstance(audio, bytes):
        return f"{len(audio)} bytes"
    return f"samples of shape {audio[0].shape}" if isinstance(audio, tuple) else str(audio)


def _from_samples(samples: Any, rate_hz: int) -> bytes:
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > samples.shape[0] > 0):
        raise AudioError(f"samples have shape {samples.shape}; it must be [samples] or [samples, channels]")
    if samples.dtype != np.int16 and not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"samples are {samples.dtype}; they must be floating point in ±1, or int16")
    if rate_hz <= 0:
        raise AudioError(f"the sample rate is {rate_hz} Hz; it must be above 0")
    _require_finite(samples)
    return _encode(samples, int(rate_hz))


def _require_finite(samples: np.ndarray) -> None:
    if not np.isfinite(samples).all():
        raise AudioError("samples that are not finite numbers")


def _encode(samples: np.ndarray, rate_hz: int) -> bytes:
    """16-bit WAV; floats that were 16 bits before come out exactly as they were.

    libsndfile's own conversion would not do that: it multiplies by 32767 here and divided by 32768 there.
    """
    if samples.dtype != np.int16:
        samples = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()
