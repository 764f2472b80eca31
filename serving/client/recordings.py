"""Conversion of recordings to the WAV bytes that the model takes. The model's own limits decide which are usable."""

import io
import os
from typing import Any, TypeAlias

import numpy as np
import soundfile

from modules.audio.decoding import WIDEST_LIMITS, AudioCode, BadAudio, decode
from modules.common import addresses
from serving.client.errors import AudioError

Audio: TypeAlias = str | os.PathLike[str] | bytes | tuple[np.ndarray, int]
"""A file that libsndfile reads, local or in a bucket, the bytes of one, or samples with their rate in Hz.

Samples are of shape ``[samples]`` or ``[samples, channels]``, floating point in ±1 or int16.
"""

_FULL_SCALE = 32_768


def to_wav(audio: Audio) -> bytes:
    """Return the whole recording as WAV, with its own rate and all its channels.

    The model averages channels and resamples as for training. Doing so here, and rounding again, would be audible.

    Args:
        audio: The recording.

    Raises:
        AudioError: The recording cannot be read, or no model can use it.
    """
    encoded = _file_bytes(audio)
    try:
        decode(encoded, WIDEST_LIMITS)
    except BadAudio as error:
        raise AudioError(error.code, f"{name_of(audio)}: {error.reason}") from error
    with soundfile.SoundFile(io.BytesIO(encoded)) as sound:
        if (sound.format, sound.subtype) == ("WAV", "PCM_16"):
            return encoded
        return _encode(sound.read(dtype="float32", always_2d=True), sound.samplerate)


def open_long(audio: Audio) -> soundfile.SoundFile:
    """Open a recording of any length for :func:`read_wav`; close it after use.

    Args:
        audio: The recording.

    Raises:
        AudioError: The recording cannot be read, or is empty.
    """
    local = isinstance(audio, (str, os.PathLike)) and not addresses.in_bucket(os.fspath(audio))
    file = audio if local else io.BytesIO(_file_bytes(audio))
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(f"{name_of(audio)}: not a readable sound file: {error}") from error
    if sound.frames == 0:
        sound.close()
        raise AudioError(AudioCode.NO_SAMPLES, f"{name_of(audio)}: {AudioCode.NO_SAMPLES}: the data has length zero")
    return sound


def read_wav(sound: soundfile.SoundFile, *, start_frame: int, frames: int) -> bytes:
    """Return a part of the recording as WAV.

    Args:
        sound: The open recording.
        start_frame: First frame of the part.
        frames: Number of frames; fewer at the end of the recording.
    """
    sound.seek(start_frame)
    return _encode(sound.read(frames, dtype="float32", always_2d=True), sound.samplerate)


def bytes_per_sample(sound: soundfile.SoundFile) -> int:
    """Return the largest size in bytes of one channel's sample in the output of :func:`read_wav`.

    Args:
        sound: The open recording.
    """
    return 2 if sound.subtype.startswith("PCM") else 4


def _file_bytes(audio: Audio) -> bytes:
    if isinstance(audio, bytes):
        return audio
    if isinstance(audio, tuple):
        return _from_samples(*audio)
    try:
        return addresses.read_bytes(os.fspath(audio))
    except OSError as error:
        raise _unreadable(f"cannot read {audio}: {error.strerror or error}") from error


def _unreadable(text: str) -> AudioError:
    return AudioError(AudioCode.UNREADABLE, text)


def name_of(audio: Audio) -> str:
    """Return the name of the recording in messages.

    Args:
        audio: The recording.
    """
    if isinstance(audio, bytes):
        return f"{len(audio)} bytes"
    return f"samples of shape {audio[0].shape}" if isinstance(audio, tuple) else str(audio)


def _from_samples(samples: Any, rate_hz: int) -> bytes:
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > samples.shape[0] > 0):
        raise _unreadable(f"samples have shape {samples.shape}; it must be [samples] or [samples, channels]")
    if samples.dtype != np.int16 and not np.issubdtype(samples.dtype, np.floating):
        raise _unreadable(f"samples are {samples.dtype}; they must be floating point in ±1, or int16")
    if rate_hz <= 0:
        raise _unreadable(f"the sample rate is {rate_hz} Hz; it must be above 0")
    return _encode(samples, int(rate_hz))


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
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()
