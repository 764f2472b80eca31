"""Bytes of a sound file to a mono waveform, or the reason why not.

Imports no TensorFlow: the client and the corpus commands start at once.
"""

import dataclasses
import enum
import functools
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import soundfile
from pydantic import Field, model_validator

from modules.audio import containers, formats, mpeg, riff
from modules.common.errors import SerError
from modules.common.settings import Settings

_BLOCK_FRAMES = 1 << 18
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports the largest int64 for streams of unknown length
_UNRECOGNISED = 1  # SF_ERR_UNRECOGNISED_FORMAT
_UNIMPLEMENTED = 13  # SFE_UNIMPLEMENTED
_LEAST_OF_MEAN = 10  # the mean of one channel and silent ones has this many times the peak that is refused
_MPEG_CODES = (0x50, 0x55)  # WAVE_FORMAT_MPEG and WAVE_FORMAT_MPEGLAYER3


class AudioCode(enum.StrEnum):
    """Stable codes of the errors of a recording, the same at ingest and in the served model's answers.

    ``AUDIO_SILENT`` is one of ingest alone: the served model answers silence.
    """

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
    CANCELLED = "AUDIO_CHANNELS_CANCEL"
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
        description="A recording whose peak, in full scales, is at or below this is silent, and not an example; 1e-4 "
        "is -80 dBFS. The served model answers `no_speech` to silence.",
    )
    min_speech: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="The served model answers `no_speech` where the probability of speech is below this. 0 takes every "
        "sound for speech.",
    )
    min_confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        description="The served model answers `not_sure` where the probability of the most probable emotion is below "
        "this. 0 always gives an emotion. `training.max_error` chooses it.",
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

    @property
    def at_ingest(self) -> "AudioLimits":
        """These limits without the thresholds of answers, which change no example."""
        names = ("min_speech", "min_confidence")
        return self.replace(**{name: type(self).model_fields[name].default for name in names})


DEFAULT_LIMITS = AudioLimits()

WIDEST_LIMITS = AudioLimits(
    min_duration_sec=0.0,
    max_duration_sec=1e6,
    max_bytes=1 << 31,
    min_sample_rate_hz=1,
    max_sample_rate_hz=1 << 31,
    max_channels=1024,
    silence_peak=0.0,
    min_speech=0.0,
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
NOT_CANCELLED = Check(
    AudioCode.CANCELLED,
    lambda limits, peak, highest, channels: peak * channels * _LEAST_OF_MEAN >= highest,
    "the channels cancel each other: one has a peak of {highest:.1e}, their mean one of {peak:.1e}; use one channel, "
    "with --channel, the client's channel=, or `sox in.wav out.wav remix 1`",
)
AUDIBLE = Check(
    AudioCode.SILENT,
    lambda limits, peak: peak > limits.silence_peak,
    "the peak is {peak:.1e} of full scale; above {limits.silence_peak:g} is needed",
)
WINDOW_AUDIBLE = Check(
    AudioCode.SILENT,
    AUDIBLE.holds,
    "the peak of the analysis window is {peak:.1e} of full scale; above {limits.silence_peak:g} is needed",
)
NOT_TOO_LOUD = Check(
    AudioCode.TOO_LOUD,
    lambda limits, peak: peak <= limits.max_peak,
    "the peak is {peak:.1e} times full scale; at most {limits.max_peak:g} is allowed",
)
"""Each check of a recording, at ingest (:func:`decode`) and in the graph (:mod:`modules.audio.wav`)."""


def decode(data: bytes, limits: AudioLimits = DEFAULT_LIMITS, *, allow_silence: bool = False) -> Recording:
    """Decode a file of any format in :func:`modules.audio.formats.suffixes`.

    Args:
        data: Content of the file.
        limits: Limits of a usable recording.
        allow_silence: Whether a silent recording is usable: the served model answers it, and it is not an example.

    Raises:
        BadAudio: The file cannot be read or exceeds ``limits``.
    """
    NOT_EMPTY.require(limits, size=len(data))
    FILE_SIZE.require(limits, size=len(data))
    with open_sound(data, limits) as file:
        _check_header(file, limits)
        blocks_read = list(_mono_blocks(file, limits))
        rate_hz, channels = file.samplerate, file.channels
    samples = np.concatenate([block.mean for block in blocks_read])
    peak = _peak(samples)
    _check_peaks(peak, max(block.highest for block in blocks_read), channels, limits)
    if not allow_silence:
        AUDIBLE.require(limits, peak=peak)
    return Recording(samples=samples, sample_rate_hz=rate_hz)


def check(file: soundfile.SoundFile, limits: AudioLimits) -> None:
    """Do the checks of the served model on an open recording, without holding its samples; it is read to the end.

    They are those of :func:`decode` that allows silence.

    Args:
        file: The recording.
        limits: Limits of a usable recording.

    Raises:
        BadAudio: The recording is damaged or exceeds ``limits``.
    """
    _check_header(file, limits)
    peaks = [(_peak(block.mean), block.highest) for block in _mono_blocks(file, limits)]
    peak, highest = np.max(peaks, axis=0)
    _check_peaks(float(peak), float(highest), file.channels, limits)


def open_sound(data: bytes, limits: AudioLimits = DEFAULT_LIMITS) -> soundfile.SoundFile:
    """Open a recording. Its length may be an estimate, and it may be impossible to seek; see :func:`is_exact`.

    Args:
        data: Content of the file.
        limits: Limits of a usable recording.

    Raises:
        BadAudio: The format is not read, or the file is truncated.
    """
    data = _with_whole_data(data, limits)
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.LibsndfileError as error:
        return _open_other(data, limits, error)
    return _open_mpeg(file, data, limits) if is_mpeg(file) else file


def is_mpeg(file: soundfile.SoundFile) -> bool:
    """Return whether a recording is MP1, MP2 or MP3, whose length libsndfile estimates."""
    return file.subtype.startswith("MPEG")


def is_exact(file: soundfile.SoundFile) -> bool:
    """Return whether the number of frames is known and every position can be sought."""
    return file.seekable() and not is_mpeg(file) and file.frames < _UNKNOWN_FRAMES


def blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield the rest of a recording, float32 of shape ``[frames, channels]``.

    Raises:
        BadAudio: The recording is damaged.
    """
    try:
        while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            yield block
    except soundfile.LibsndfileError as error:
        raise _damaged(error) from error


def _with_whole_data(data: bytes, limits: AudioLimits) -> bytes:
    """Return a WAV file with the true size of its data, or the MPEG audio in it; other files as they are.

    libsndfile reads a truncated WAV file as a shorter one.

    Raises:
        BadAudio: The file is truncated.
    """
    if not riff.is_wav(data):
        return data
    chunk = riff.data_chunk(data)
    if chunk is None:
        text = f"no data chunk among the first {riff.MAX_CHUNKS} of the WAV file"
        raise BadAudio(AudioCode.TRUNCATED, text)
    WHOLE.require(limits, present=len(data) - chunk.start, expected=chunk.size, unit="bytes of data")
    if riff.format_code(data) in _MPEG_CODES:
        return data[chunk.start : chunk.start + chunk.size]
    return riff.with_data_size(data, chunk)


def _open_mpeg(file: soundfile.SoundFile, data: bytes, limits: AudioLimits) -> soundfile.SoundFile:
    length = mpeg.length(data)
    WHOLE.require(limits, present=length.present, expected=length.stated, unit="samples")
    if length.present <= max(file.frames, length.stated) + mpeg.MAX_FRAME_SAMPLES:
        return file
    file.close()
    return soundfile.SoundFile(io.BytesIO(mpeg.with_length(data)))


def _open_other(data: bytes, limits: AudioLimits, error: soundfile.LibsndfileError) -> soundfile.SoundFile:
    """Open what libsndfile does not recognise by PyAV, or raise what it is."""
    kind = formats.kind_of(data)
    if error.code not in (_UNRECOGNISED, _UNIMPLEMENTED) and not kind.remedy:
        raise _damaged(error) from error
    if kind.container and containers.can_read():
        return _converted(data, kind, limits)
    remedy = kind.remedy or formats.advice(through_container=bool(kind.container))
    raise BadAudio(AudioCode.UNREADABLE, f"{kind.name}; {remedy}") from error


def _converted(data: bytes, kind: formats.Kind, limits: AudioLimits) -> soundfile.SoundFile:
    try:
        file = containers.convert(data, kind.container, max_duration_sec=limits.max_duration_sec)
        return soundfile.SoundFile(file)
    except (containers.Undecodable, soundfile.LibsndfileError) as error:
        raise BadAudio(AudioCode.UNREADABLE, f"{kind.name} that cannot be decoded: {error}") from error


def _damaged(error: soundfile.LibsndfileError) -> BadAudio:
    detail = error.error_string.removeprefix("Error : ").rstrip(".")
    return BadAudio(AudioCode.UNREADABLE, f"not a readable sound file: {detail}")


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
    return file.frames < _UNKNOWN_FRAMES and not is_mpeg(file)


class _Block(NamedTuple):
    """Part of a recording.

    Attributes:
        mean: Mean over the channels, float32 ``[frames]``.
        highest: Peak of the loudest channel; NaN when any sample is.
    """

    mean: np.ndarray
    highest: float


def _mono_blocks(file: soundfile.SoundFile, limits: AudioLimits) -> Iterator[_Block]:
    """Yield the mean over the channels, so that no more than one block is held with all of them; check the length."""
    frames_read = 0
    for block in blocks(file):
        frames_read += len(block)
        # Again: the length in the header may be wrong or missing.
        SHORT_ENOUGH.require(limits, seconds=frames_read / file.samplerate)
        with np.errstate(invalid="ignore"):  # of infinities that cancel; the peak is NaN then, which is refused
            mean = block.mean(axis=1)
        yield _Block(mean, _peak(block))
    if _length_is_known(file):
        WHOLE.require(limits, present=frames_read, expected=file.frames, unit="frames")
    HAS_SAMPLES.require(limits, frames=frames_read)
    _check_duration(frames_read / file.samplerate, limits)


def _peak(samples: np.ndarray) -> float:
    return float(np.max(np.abs(samples)))  # NaN when any sample is


def _check_peaks(peak: float, highest: float, channels: int, limits: AudioLimits) -> None:
    FINITE.require(limits, finite=np.isfinite(peak))
    NOT_CANCELLED.require(limits, peak=peak, highest=highest, channels=channels)
    NOT_TOO_LOUD.require(limits, peak=peak)
