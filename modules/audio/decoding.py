"""Bytes of a sound file to a mono waveform, or the reason why not.

Imports no TensorFlow: the client and the corpus commands start at once.
"""

import dataclasses
import enum
import functools
import hashlib
import io
import itertools
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import soundfile
from pydantic import Field, model_validator

from modules.audio import riff
from modules.common.errors import SerError
from modules.common.settings import Settings

_BLOCK_FRAMES = 1 << 18
# Writers that stream write, as the unknown length, a value of this size or above: ffmpeg all ones, SoX 0x7FFFF000.
UNKNOWN_DATA_BYTES = 0x7FFF_F000
# Writers put a handful of chunks before the sound; a damaged file may seem to hold millions.
MAX_WAV_CHUNKS = 64


class AudioCode(enum.StrEnum):
    """Stable codes of the errors of a recording, the same at ingest and in the served model's answers."""

    EMPTY = "AUDIO_EMPTY"
    TOO_LARGE = "AUDIO_TOO_LARGE"
    UNREADABLE = "AUDIO_UNREADABLE"
    TRUNCATED = "AUDIO_TRUNCATED"
    CHANNELS = "AUDIO_CHANNELS"
    SAMPLE_RATE = "AUDIO_SAMPLE_RATE"
    NO_SAMPLES = "AUDIO_NO_SAMPLES"
    TOO_SHORT = "AUDIO_TOO_SHORT"
    TOO_LONG = "AUDIO_TOO_LONG"
    NOT_FINITE = "AUDIO_NOT_FINITE"
    SILENT = "AUDIO_SILENT"
    TOO_LOUD = "AUDIO_TOO_LOUD"


class BadAudio(SerError, ValueError):
    """A recording that cannot be used.

    Attributes:
        code: An :class:`AudioCode`.
        reason: The code and a short text, for a quarantine list.
    """

    def __init__(self, code: AudioCode, text: str) -> None:
        self.code = code
        self.reason = f"{code}: {text}"
        super().__init__(self.reason)


@dataclasses.dataclass(frozen=True)
class Recording:
    """A decoded recording.

    Attributes:
        samples: float32 of shape ``[samples]``; the mean over channels, full scale is ±1.
        sample_rate_hz: The rate it was recorded at.
    """

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def duration_sec(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate_hz

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of rate and samples: equal for the same sound as WAV and as FLAC."""
        digest = hashlib.sha256(str(self.sample_rate_hz).encode())
        digest.update(self.samples.tobytes())
        return digest.hexdigest()


class AudioLimits(Settings):
    """Limits of a usable recording, at ingest and in the served model."""

    min_duration_sec: float = Field(
        0.1, ge=0, description="Shortest recording in seconds: a syllable takes about 0.2 s."
    )
    max_duration_sec: float = Field(600.0, gt=0, description="Longest recording in seconds; bounds memory.")
    max_bytes: int = Field(200 * 1024 * 1024, ge=1, description="Largest encoded file in bytes.")
    min_sample_rate_hz: int = Field(4_000, ge=1, description="Lowest sample rate in Hz: below it no speech is left.")
    max_sample_rate_hz: int = Field(
        384_000, ge=1, description="Highest sample rate in Hz: above it the header is corrupt."
    )
    max_channels: int = Field(64, ge=1, le=1024, description="Most channels; bounds memory.")
    silence_peak: float = Field(
        1e-4,
        ge=0,
        lt=1,
        description="A recording whose peak, in full scales, is at or below this is silent; 1e-4 is -80 dBFS.",
    )
    max_peak: float = Field(
        8.0,
        gt=0,
        description="Highest peak in full scales: float files may exceed 1 a little, and far above it their scale is "
        "unknown.",
    )

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        for low, high in (
            ("min_duration_sec", "max_duration_sec"),
            ("min_sample_rate_hz", "max_sample_rate_hz"),
            ("silence_peak", "max_peak"),
        ):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} is {getattr(self, low)}; allowed: below {high}, {getattr(self, high)}")
        return self


DEFAULT_LIMITS = AudioLimits()

WIDEST_LIMITS = AudioLimits(
    min_duration_sec=0.0,
    max_duration_sec=1e6,
    max_bytes=1 << 31,
    min_sample_rate_hz=1,
    max_sample_rate_hz=1 << 31,
    max_channels=1024,
    silence_peak=0.0,
    max_peak=1e6,
)
"""For callers that leave the limits to the model's contract, such as the client."""


@dataclasses.dataclass(frozen=True)
class Check:
    """A condition on a recording, for Python's values here and for tensors in the served model.

    Attributes:
        code: Code of the error if the condition does not hold.
        holds: The condition. Takes the limits, then the measured values by name; Python's numbers or tensors.
        text: Text of the error, with the measured values by name and ``limits`` in braces.
    """

    code: AudioCode
    holds: Callable[..., Any]
    text: str

    def require(self, limits: AudioLimits, **measured: Any) -> None:
        """Raise :class:`BadAudio` unless the condition holds."""
        if not self.holds(limits, **measured):
            raise BadAudio(self.code, self.text.format(limits=limits, **measured))


NOT_EMPTY = Check(AudioCode.EMPTY, lambda limits, size: size > 0, "0 bytes; a sound file is needed")
FILE_SIZE = Check(
    AudioCode.TOO_LARGE,
    lambda limits, size: size <= limits.max_bytes,
    "{size} bytes; at most {limits.max_bytes} are allowed",
)
CHANNELS = Check(
    AudioCode.CHANNELS,
    lambda limits, channels: (channels >= 1) & (channels <= limits.max_channels),
    "{channels} channels; 1 to {limits.max_channels} are allowed",
)
SAMPLE_RATE = Check(
    AudioCode.SAMPLE_RATE,
    lambda limits, rate_hz: (rate_hz >= limits.min_sample_rate_hz) & (rate_hz <= limits.max_sample_rate_hz),
    "{rate_hz} Hz; {limits.min_sample_rate_hz} to {limits.max_sample_rate_hz} Hz are allowed",
)
HAS_SAMPLES = Check(AudioCode.NO_SAMPLES, lambda limits, frames: frames > 0, "the data has length zero")
WHOLE = Check(
    AudioCode.TRUNCATED,
    lambda limits, present, expected, unit: present >= expected,
    "{present} of {expected} {unit}; send or copy the file again",
)
LONG_ENOUGH = Check(
    AudioCode.TOO_SHORT,
    lambda limits, seconds: seconds >= limits.min_duration_sec,
    "{seconds:.3f} s; at least {limits.min_duration_sec:g} s are needed",
)
SHORT_ENOUGH = Check(
    AudioCode.TOO_LONG,
    lambda limits, seconds: seconds <= limits.max_duration_sec,
    "{seconds:.3f} s; at most {limits.max_duration_sec:g} s are allowed, cut the recording into parts",
)
FINITE = Check(AudioCode.NOT_FINITE, lambda limits, finite: finite, "samples that are NaN or infinite")
AUDIBLE = Check(
    AudioCode.SILENT,
    lambda limits, peak: peak > limits.silence_peak,
    "the peak is {peak:.1e} of full scale; above {limits.silence_peak:g} is needed",
)
NOT_TOO_LOUD = Check(
    AudioCode.TOO_LOUD,
    lambda limits, peak: peak <= limits.max_peak,
    "the peak is {peak:.1e} times full scale; at most {limits.max_peak:g} is allowed",
)
"""Each check of a recording, at ingest (:func:`decode`) and in the graph (:mod:`modules.audio.wav`)."""


def decode(data: bytes, limits: AudioLimits = DEFAULT_LIMITS) -> Recording:
    """Decode WAV, FLAC or any other file that libsndfile reads.

    Raises:
        BadAudio: The file cannot be read or exceeds ``limits``.
    """
    NOT_EMPTY.require(limits, size=len(data))
    FILE_SIZE.require(limits, size=len(data))
    _require_whole_riff(data, limits)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file, limits)
            samples = _read_mono(file, limits)
            rate_hz = file.samplerate
    except soundfile.LibsndfileError as error:
        detail = error.error_string.removeprefix("Error : ").rstrip(".")
        raise BadAudio(AudioCode.UNREADABLE, f"not a readable sound file: {detail}") from error
    _check_samples(samples, limits)
    return Recording(samples=samples, sample_rate_hz=rate_hz)


def _check_header(file: soundfile.SoundFile, limits: AudioLimits) -> None:
    """Refuse by the header alone, before memory is spent on the samples."""
    SAMPLE_RATE.require(limits, rate_hz=file.samplerate)
    CHANNELS.require(limits, channels=file.channels)
    HAS_SAMPLES.require(limits, frames=file.frames)
    if _length_is_known(file):
        _check_duration(file.frames / file.samplerate, limits)


def _check_duration(seconds: float, limits: AudioLimits) -> None:
    LONG_ENOUGH.require(limits, seconds=seconds)
    SHORT_ENOUGH.require(limits, seconds=seconds)


def _length_is_known(file: soundfile.SoundFile) -> bool:
    return file.frames < 1 << 62  # libsndfile reports the largest int64 for streams of unknown length


def _read_mono(file: soundfile.SoundFile, limits: AudioLimits) -> np.ndarray:
    """Read block by block, so that no more than one block is held with all its channels."""
    blocks = []
    frames_read = 0
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        frames_read += len(block)
        # Again: the length in the header may be wrong or missing.
        SHORT_ENOUGH.require(limits, seconds=frames_read / file.samplerate)
        blocks.append(block.mean(axis=1))
    if _length_is_known(file):
        WHOLE.require(limits, present=frames_read, expected=file.frames, unit="frames")
    _check_duration(frames_read / file.samplerate, limits)
    return np.concatenate(blocks)


def _check_samples(samples: np.ndarray, limits: AudioLimits) -> None:
    peak = float(np.max(np.abs(samples)))  # NaN when any sample is
    FINITE.require(limits, finite=np.isfinite(peak))
    AUDIBLE.require(limits, peak=peak)
    NOT_TOO_LOUD.require(limits, peak=peak)


def _require_whole_riff(data: bytes, limits: AudioLimits) -> None:
    """Reject a truncated WAV, which libsndfile reads as a shorter one: compare the data with the size it states."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    for chunk in itertools.islice(riff.chunks(data), MAX_WAV_CHUNKS):
        if chunk.id == b"data":
            expected = 0 if chunk.size >= UNKNOWN_DATA_BYTES else chunk.size
            WHOLE.require(limits, present=len(data) - chunk.start, expected=expected, unit="bytes of data")
            return
    raise BadAudio(AudioCode.TRUNCATED, f"no data chunk among the first {MAX_WAV_CHUNKS} of the WAV file")
