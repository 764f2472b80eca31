"""Bytes of a sound file to a mono waveform, or the reason why not.

Imports no TensorFlow: the client and the corpus commands start at once.
"""

import dataclasses
import io
import struct
from typing import Self

import numpy as np
import soundfile
from pydantic import Field, model_validator

from modules.common.settings import Settings

_BLOCK_FRAMES = 1 << 18
# Writers that stream do not know the length and put a value of this size or above: ffmpeg all ones, SoX 0x7FFFF000.
UNKNOWN_DATA_BYTES = 0x7FFF_F000
# Writers put a handful of chunks before the sound; a damaged file may seem to hold millions.
MAX_WAV_CHUNKS = 64


class BadAudio(ValueError):
    """A recording that cannot be used; ``reason`` says why in a few words, fit for a quarantine list."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
        return len(self.samples) / self.sample_rate_hz


class AudioLimits(Settings):
    """What counts as a usable recording, at ingest and in the served model alike."""

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


def decode(data: bytes, limits: AudioLimits = DEFAULT_LIMITS) -> Recording:
    """Decodes WAV, FLAC or any other file that libsndfile reads.

    Raises:
        BadAudio: when the file cannot be read or lies outside ``limits``.
    """
    if not data:
        raise BadAudio("empty file")
    if len(data) > limits.max_bytes:
        raise BadAudio(f"file of {len(data)} bytes; at most {limits.max_bytes} are allowed")
    _require_whole_riff(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file, limits)
            samples = _read_mono(file, limits)
            rate_hz = file.samplerate
    except soundfile.LibsndfileError as error:
        detail = error.error_string.removeprefix("Error : ").rstrip(".")
        raise BadAudio(f"not a readable sound file: {detail}") from error
    _check_samples(samples, limits)
    return Recording(samples=samples, sample_rate_hz=rate_hz)


def _check_header(file: soundfile.SoundFile, limits: AudioLimits) -> None:
    """Refuses by the header alone, before memory is spent on the samples."""
    rate_hz = file.samplerate
    if not limits.min_sample_rate_hz <= rate_hz <= limits.max_sample_rate_hz:
        raise BadAudio(
            f"sample rate of {rate_hz} Hz; {limits.min_sample_rate_hz} to {limits.max_sample_rate_hz} Hz are allowed"
        )
    if file.channels > limits.max_channels:
        raise BadAudio(f"{file.channels} channels; at most {limits.max_channels} are allowed")
    if file.frames == 0:
        raise BadAudio("no samples: the data has length zero")
    duration_sec = file.frames / rate_hz
    if _length_is_known(file) and duration_sec > limits.max_duration_sec:
        raise BadAudio(f"too long: {duration_sec:.1f} s; at most {limits.max_duration_sec:g} s are allowed")
    if duration_sec < limits.min_duration_sec:
        raise BadAudio(f"too short: {duration_sec:.3f} s; at least {limits.min_duration_sec:g} s are needed")


def _length_is_known(file: soundfile.SoundFile) -> bool:
    return file.frames < 1 << 62  # libsndfile puts the largest int64 where a stream does not say


def _read_mono(file: soundfile.SoundFile, limits: AudioLimits) -> np.ndarray:
    """Reads block by block, so that no more than one block is held with all its channels."""
    blocks = []
    frames_read = 0
    # Its own limit: the header may lie about the length, or not know it.
    max_frames = int(limits.max_duration_sec * file.samplerate)
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        frames_read += len(block)
        if frames_read > max_frames:
            raise BadAudio(f"too long: more than {limits.max_duration_sec:g} s")
        blocks.append(block.mean(axis=1))
    if _length_is_known(file) and frames_read < file.frames:
        raise BadAudio(f"truncated: {frames_read} of {file.frames} frames could be read")
    if frames_read < limits.min_duration_sec * file.samplerate:
        raise BadAudio(f"too short: {frames_read} frames at {file.samplerate} Hz")
    return np.concatenate(blocks)


def _check_samples(samples: np.ndarray, limits: AudioLimits) -> None:
    peak = float(np.max(np.abs(samples)))  # NaN when any sample is
    if not np.isfinite(peak):
        raise BadAudio("samples that are not finite numbers")
    if peak <= limits.silence_peak:
        raise BadAudio(f"silent: the peak is {peak:.1e} of full scale; above {limits.silence_peak:g} is needed")
    if peak > limits.max_peak:
        raise BadAudio(f"peak of {peak:.3g} times full scale; at most {limits.max_peak:g} is allowed")


def _require_whole_riff(data: bytes) -> None:
    """A truncated WAV reads as a shorter one in libsndfile: compare what its data chunk promises with what is there."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    position = 12
    for _ in range(MAX_WAV_CHUNKS):
        if position + 8 > len(data):
            break
        chunk_id, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if chunk_id == b"data":
            present = len(data) - position
            if present < size < UNKNOWN_DATA_BYTES:
                raise BadAudio(f"truncated: the data chunk has {present} of {size} bytes")
            return
        position += size + size % 2
    raise BadAudio(f"truncated or damaged: no data chunk among the first {MAX_WAV_CHUNKS} of the WAV file")
