"""Decoding of WAV inside a TensorFlow graph, for the requests of the served model.

``tf.audio.decode_wav`` reads 16-bit PCM only and stops at the extensible header that most writers use for more than
two channels or 16 bits. The samples are those of :func:`modules.audio.decoding.decode`. Nothing here raises, whatever
the bytes are: see :mod:`modules.audio.graph_checks`.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from modules.audio import riff
from modules.audio.decoding import (
    AUDIBLE,
    CHANNELS,
    DEFAULT_LIMITS,
    FILE_SIZE,
    FINITE,
    HAS_SAMPLES,
    LONG_ENOUGH,
    NOT_CANCELLED,
    NOT_EMPTY,
    NOT_TOO_LOUD,
    SAMPLE_RATE,
    SHORT_ENOUGH,
    WHOLE,
    AudioCode,
    AudioLimits,
    Check,
)
from modules.audio.graph_checks import NO_ERROR, Applied, apply, first_error

_PCM, _IEEE_FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_NO_CHUNK = -1
_HEAD_BYTES = 12
_ENCODING_TEXT = "8, 16, 24 or 32-bit PCM (code 1), 32 or 64-bit float (code 3)"

_IS_RIFF_WAVE = Check(
    AudioCode.UNREADABLE,
    lambda limits, is_wave, size, head: is_wave,
    "not a WAV file: its {size} bytes begin with {head}; RIFF....WAVE is needed",
)
_HAS_DATA = Check(
    AudioCode.TRUNCATED,
    lambda limits, in_file, size: in_file,
    f"no data chunk among the first {riff.MAX_CHUNKS} in the WAV file's {{size}} bytes",
)
_HAS_FORMAT = Check(
    AudioCode.UNREADABLE, lambda limits, in_file: in_file, "no fmt chunk before the WAV file's data chunk"
)
_WHOLE_FORMAT = Check(AudioCode.UNREADABLE, lambda limits, whole: whole, "the fmt chunk is shorter than 16 bytes")
_READABLE_ENCODING = Check(
    AudioCode.UNREADABLE,
    lambda limits, readable, format_code, bits: readable,
    f"format code {{format_code}} with {{bits}} bits; readable are {_ENCODING_TEXT}",
)
_WHOLE_FLOATS = Check(
    AudioCode.TRUNCATED,
    lambda limits, size: size % 4 == 0,
    "{size} bytes are not a whole number of float32 samples",
)


class Decoded(NamedTuple):
    """A recording, or why it cannot be used; the waveform and its rate have no meaning then.

    Attributes:
        waveform: float32 ``[samples]``, the mean over the channels, full scale is ±1.
        sample_rate_hz: int32 ``[]``.
        error: string ``[]``, code and text; empty for a recording that can be used.
    """

    waveform: tf.Tensor
    sample_rate_hz: tf.Tensor
    error: tf.Tensor


class _Layout(NamedTuple):
    """Position and encoding of the samples; all int64 ``[]``."""

    format_code: tf.Tensor
    channels: tf.Tensor
    sample_rate_hz: tf.Tensor
    bits: tf.Tensor
    data_start: tf.Tensor
    data_bytes: tf.Tensor


def decode_wav(encoded: tf.Tensor, *, limits: AudioLimits = DEFAULT_LIMITS) -> Decoded:
    """Decode a RIFF WAV file of 8, 16, 24 or 32-bit PCM or 32 or 64-bit float, any rate and number of channels.

    Args:
        encoded: string ``[]``, the bytes of the file.
        limits: Limits of a usable recording.
    """
    size = tf.cast(tf.strings.length(encoded), tf.int64)
    format_at, data_at = _find_chunks(encoded, size)
    layout = _read_layout(encoded, size, format_at, data_at)
    error = first_error(
        *_check_file(encoded, size, format_at, data_at, limits),
        *_check_layout(layout, size, limits),
    )
    return _decoded(error, lambda: _read_samples(encoded, layout), layout.sample_rate_hz, limits)


def decode_floats(encoded: tf.Tensor, sample_rate_hz: tf.Tensor, *, limits: AudioLimits = DEFAULT_LIMITS) -> Decoded:
    """Decode samples without a header.

    Args:
        encoded: string ``[]``, one channel of little-endian float32 samples.
        sample_rate_hz: int32 ``[]``.
        limits: Limits of a usable recording.
    """
    size = tf.cast(tf.strings.length(encoded), tf.int64)
    error = first_error(
        apply(NOT_EMPTY, limits, size=size),
        apply(FILE_SIZE, limits, size=size),
        apply(_WHOLE_FLOATS, limits, size=size),
        apply(SAMPLE_RATE, limits, rate_hz=sample_rate_hz),
        *_check_duration(size // 4, sample_rate_hz, limits),
    )
    return _decoded(error, lambda: tf.io.decode_raw(encoded, tf.float32)[:, tf.newaxis], sample_rate_hz, limits)


def _decoded(
    error: tf.Tensor, read: Callable[[], tf.Tensor], sample_rate_hz: tf.Tensor, limits: AudioLimits
) -> Decoded:
    """Read the samples, float32 ``[samples, channels]``, if the header has no error, and check them."""

    def readable() -> Decoded:
        samples = read()
        waveform = tf.reduce_mean(samples, axis=1)
        error = first_error(*_check_samples(samples, waveform, limits))
        return Decoded(waveform, tf.cast(sample_rate_hz, tf.int32), error)

    return tf.cond(error == NO_ERROR, readable, lambda: Decoded(tf.zeros([0]), tf.constant(0), error))


def _find_chunks(encoded: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the positions of the ``fmt`` and the ``data`` chunk, int64; :data:`_NO_CHUNK` if missing."""
    state = (tf.constant(12, tf.int64), tf.constant(_NO_CHUNK, tf.int64), tf.constant(_NO_CHUNK, tf.int64))
    _, format_at, data_at = tf.while_loop(
        lambda position, format_at, data_at: (data_at == _NO_CHUNK) & (position + 8 <= size),
        lambda position, format_at, data_at: _next_chunk(encoded, position, format_at),
        state,
        maximum_iterations=riff.MAX_CHUNKS,
    )
    return format_at, data_at


def _next_chunk(
    encoded: tf.Tensor, position: tf.Tensor, format_at: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    chunk_id = tf.strings.substr(encoded, position, 4)
    chunk_bytes = _unsigned(encoded, position + 4)
    return (
        position + 8 + chunk_bytes + chunk_bytes % 2,
        tf.where(chunk_id == b"fmt ", position, format_at),
        tf.where(chunk_id == b"data", position, _NO_CHUNK),
    )


def _words(encoded: tf.Tensor, position: tf.Tensor, count: int) -> tf.Tensor:
    """Return little-endian 16-bit numbers, int64 ``[count]``; zeros outside of the file."""
    size = tf.cast(tf.strings.length(encoded), tf.int64)
    piece = tf.strings.substr(encoded, tf.clip_by_value(position, 0, size), 2 * count)
    return tf.cast(tf.io.decode_raw(piece, tf.uint16, fixed_length=2 * count), tf.int64)


def _unsigned(encoded: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Return the unsigned 32-bit number at ``position``, as int64."""
    low, high = tf.unstack(_words(encoded, position, 2))
    return low + high * (1 << 16)


def _is_chunk(encoded: tf.Tensor, size: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Return whether a whole chunk follows, or nothing, as :func:`modules.audio.riff.data_chunk` does; bool ``[]``."""
    chunk_id = tf.strings.substr(encoded, tf.clip_by_value(position, 0, size), 4)
    ends_at = position + 8 + _unsigned(encoded, position + 4)
    return (position >= size) | (tf.strings.regex_full_match(chunk_id, riff.CHUNK_ID) & (ends_at <= size))


def _read_layout(encoded: tf.Tensor, size: tf.Tensor, format_at: tf.Tensor, data_at: tf.Tensor) -> _Layout:
    """Return the fields of the header; undefined if a chunk is missing."""
    fields = tf.unstack(_words(encoded, format_at + 8, 8))
    # The extensible header has the code that follows it 24 bytes into the chunk.
    (extended,) = tf.unstack(_words(encoded, format_at + 8 + 24, 1))
    stated = _unsigned(encoded, data_at + 4)
    present = size - data_at - 8
    is_unknown = (stated >= riff.UNKNOWN_DATA_BYTES) | ((stated == 0) & ~_is_chunk(encoded, size, data_at + 8))
    return _Layout(
        format_code=tf.where(fields[0] == _EXTENSIBLE, extended, fields[0]),
        channels=fields[1],
        sample_rate_hz=fields[2] + fields[3] * (1 << 16),
        bits=fields[7],
        data_start=data_at + 8,
        data_bytes=tf.where(is_unknown, present, stated),
    )


def _check_file(
    encoded: tf.Tensor, size: tf.Tensor, format_at: tf.Tensor, data_at: tf.Tensor, limits: AudioLimits
) -> list[Applied]:
    head = tf.strings.substr(encoded, 0, _HEAD_BYTES)
    numbers = tf.strings.as_string(tf.io.decode_raw(head, tf.uint8))
    return [
        apply(NOT_EMPTY, limits, size=size),
        apply(FILE_SIZE, limits, size=size),
        apply(
            _IS_RIFF_WAVE,
            limits,
            is_wave=_is_riff_wave(head),
            size=size,
            head=tf.strings.reduce_join(numbers, separator=" "),
        ),
        apply(_HAS_DATA, limits, in_file=(data_at != _NO_CHUNK) & (data_at + 8 <= size), size=size),
        apply(_HAS_FORMAT, limits, in_file=format_at != _NO_CHUNK),
        apply(_WHOLE_FORMAT, limits, whole=format_at + 24 <= data_at),
    ]


def _is_riff_wave(head: tf.Tensor) -> tf.Tensor:
    filled = tf.strings.join([head, "\0" * _HEAD_BYTES])  # the head of a short file is shorter
    return (tf.strings.substr(filled, 0, 4) == b"RIFF") & (tf.strings.substr(filled, 8, 4) == b"WAVE")


def _check_layout(layout: _Layout, size: tf.Tensor, limits: AudioLimits) -> list[Applied]:
    frames = layout.data_bytes // tf.maximum(layout.channels * layout.bits // 8, 1)
    return [
        apply(
            _READABLE_ENCODING,
            limits,
            readable=tf.reduce_any(_encodings_of(layout)),
            format_code=layout.format_code,
            bits=layout.bits,
        ),
        apply(CHANNELS, limits, channels=layout.channels),
        apply(SAMPLE_RATE, limits, rate_hz=layout.sample_rate_hz),
        apply(WHOLE, limits, present=size - layout.data_start, expected=layout.data_bytes, unit="bytes of data"),
        *_check_duration(frames, layout.sample_rate_hz, limits),
    ]


def _check_duration(frames: tf.Tensor, rate_hz: tf.Tensor, limits: AudioLimits) -> list[Applied]:
    seconds = tf.cast(frames, tf.float32) / tf.cast(tf.maximum(rate_hz, 1), tf.float32)
    return [
        apply(HAS_SAMPLES, limits, frames=frames),
        apply(LONG_ENOUGH, limits, seconds=seconds),
        apply(SHORT_ENOUGH, limits, seconds=seconds),
    ]


def _check_samples(samples: tf.Tensor, waveform: tf.Tensor, limits: AudioLimits) -> list[Applied]:
    peak, highest = tf.reduce_max(tf.abs(waveform)), tf.reduce_max(tf.abs(samples))
    channels = tf.cast(tf.shape(samples)[1], tf.float32)
    return [
        apply(FINITE, limits, finite=tf.reduce_all(tf.math.is_finite(waveform))),  # a maximum may pass over NaN
        apply(NOT_CANCELLED, limits, peak=peak, highest=highest, channels=channels),
        apply(AUDIBLE, limits, peak=peak),
        apply(NOT_TOO_LOUD, limits, peak=peak),
    ]


def _read_samples(encoded: tf.Tensor, layout: _Layout) -> tf.Tensor:
    """Return float32 ``[samples, channels]``."""
    frame_bytes = layout.channels * layout.bits // 8
    usable_bytes = layout.data_bytes // frame_bytes * frame_bytes
    data = tf.strings.substr(encoded, layout.data_start, usable_bytes)
    encoding = tf.argmax(tf.cast(_encodings_of(layout), tf.int32), output_type=tf.int32)
    samples = tf.switch_case(encoding, [lambda decoder=decoder: decoder(data) for decoder in _DECODERS.values()])
    return tf.reshape(samples, [-1, layout.channels])


def _pcm_24(data: tf.Tensor) -> tf.Tensor:
    """Put the three bytes at the upper end of 32 bits, which keeps the sign."""
    low, middle, high = tf.unstack(tf.cast(tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, 3]), tf.int32), axis=1)
    return tf.cast(low * (1 << 8) + middle * (1 << 16) + high * (1 << 24), tf.float32) / 2.0**31


_DECODERS: dict[tuple[int, int], Callable[[tf.Tensor], tf.Tensor]] = {
    (_PCM, 8): lambda data: (tf.cast(tf.io.decode_raw(data, tf.uint8), tf.float32) - 128.0) / 128.0,
    (_PCM, 16): lambda data: tf.cast(tf.io.decode_raw(data, tf.int16), tf.float32) / 2.0**15,
    (_PCM, 24): _pcm_24,
    (_PCM, 32): lambda data: tf.cast(tf.io.decode_raw(data, tf.int32), tf.float32) / 2.0**31,
    (_IEEE_FLOAT, 32): lambda data: tf.io.decode_raw(data, tf.float32),
    (_IEEE_FLOAT, 64): lambda data: tf.cast(tf.io.decode_raw(data, tf.float64), tf.float32),
}
"""By format code and bits per sample."""


def _encodings_of(layout: _Layout) -> tf.Tensor:
    """Return which of :data:`_DECODERS` fits, bool ``[decoders]``."""
    codes, bits = zip(*_DECODERS, strict=True)
    return (layout.format_code == tf.constant(codes, tf.int64)) & (layout.bits == tf.constant(bits, tf.int64))
