"""Decoding of WAV inside a TensorFlow graph, for the requests of the served model.

``tf.audio.decode_wav`` reads 16-bit PCM only and stops at the extensible header that most writers use for more than
two channels or 16 bits. The samples are those of :func:`modules.audio.decoding.decode`, which reads by libsndfile; what
libsndfile refuses or reads in another way is refused here. The exceptions are a damaged ``LIST`` chunk, which is passed
over, and silence, which has an answer. Nothing here raises, whatever the bytes are: see
:mod:`modules.audio.graph_checks`.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from modules.audio import riff
from modules.audio.decoding import (
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
_FORMAT_BYTES, _EXTENSIBLE_BYTES = 16, 40
# What follows the format code in the GUID of an extensible header: Microsoft's, and that of Ambisonic B-format.
_GUID_ENDS = [bytes.fromhex("000000001000800000aa00389b71"), bytes.fromhex("00002107d3118644c8c1ca000000")]
_COMPRESSED = [b"wvpk", b"OggS"]
# libsndfile reads these chunks by their size, which is even, and loses its place if it is smaller.
_LEAST_BYTES = {b"fact": 4, b"smpl": 36, b"acid": 24}
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
_REGULAR_CHUNKS = Check(
    AudioCode.UNREADABLE,
    lambda limits, regular: regular,
    "damaged chunks: a second fmt, data, PEAK or RIFF, or a size that the name of its chunk does not allow",
)
_WHOLE_FORMAT = Check(
    AudioCode.UNREADABLE,
    lambda limits, size, needed: size >= needed,
    "the fmt chunk has {size} bytes; its format code needs {needed}",
)
_READABLE_ENCODING = Check(
    AudioCode.UNREADABLE,
    lambda limits, readable, format_code, bits: readable,
    f"format code {{format_code}} with {{bits}} bits; readable are {_ENCODING_TEXT}",
)
_PACKED = Check(
    AudioCode.UNREADABLE,
    lambda limits, packed, block_bytes: packed,
    "24-bit PCM in blocks of {block_bytes} bytes, four for each channel, which may hold 24 or 32 bits; convert it",
)
_NOT_COMPRESSED = Check(
    AudioCode.UNREADABLE,
    lambda limits, plain: plain,
    "WavPack or Ogg in the data chunk, which the header does not state",
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


class _Chunks(NamedTuple):
    """Positions of chunks, int64 ``[]``, :data:`_NO_CHUNK` if missing; and whether all are regular, bool ``[]``."""

    format_at: tf.Tensor
    data_at: tf.Tensor
    peak_at: tf.Tensor
    regular: tf.Tensor


class _Layout(NamedTuple):
    """Position and encoding of the samples; all int64 ``[]``."""

    stated_code: tf.Tensor
    format_code: tf.Tensor
    channels: tf.Tensor
    sample_rate_hz: tf.Tensor
    block_bytes: tf.Tensor
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
    found = _find_chunks(encoded, size)
    layout = _read_layout(encoded, size, found)
    error = first_error(
        *_check_file(encoded, size, found, limits),
        *_check_chunks(encoded, found, layout, limits),
        *_check_layout(encoded, layout, size, limits),
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


def _find_chunks(encoded: tf.Tensor, size: tf.Tensor) -> _Chunks:
    """Walk over the chunks, to the end of the file or to the first that is not regular."""
    none = tf.constant(_NO_CHUNK, tf.int64)
    _, found = tf.while_loop(
        lambda position, found: found.regular & (position + 8 <= size),
        lambda position, found: _next_chunk(encoded, size, position, found),
        (tf.constant(_HEAD_BYTES, tf.int64), _Chunks(none, none, none, tf.constant(True))),
        maximum_iterations=riff.MAX_CHUNKS,
    )
    return found


def _next_chunk(encoded: tf.Tensor, size: tf.Tensor, position: tf.Tensor, found: _Chunks) -> tuple[tf.Tensor, _Chunks]:
    chunk_id = tf.strings.substr(encoded, position, 4)
    chunk_bytes = _unsigned(encoded, position + 4)
    is_text = tf.strings.regex_full_match(chunk_id, "[ -~]{4}")
    has_format, has_data = found.format_at != _NO_CHUNK, found.data_at != _NO_CHUNK
    is_extra = (
        ((chunk_id == b"fmt ") & has_format)
        | ((chunk_id == b"data") & has_data)
        | ((chunk_id == b"PEAK") & ((found.peak_at != _NO_CHUNK) | ~has_format))
        | (chunk_id == b"RIFF")
        | (chunk_id == b"RIFX")
    )
    names, least_bytes = tf.constant(list(_LEAST_BYTES)), tf.constant(list(_LEAST_BYTES.values()), tf.int64)
    has_its_size = tf.reduce_all((chunk_id != names) | ((chunk_bytes >= least_bytes) & (chunk_bytes % 2 == 0)))
    after = position + 8 + chunk_bytes + chunk_bytes % 2
    return tf.where(is_text, after, size), _Chunks(  # libsndfile, too, ends at a name that is not text
        tf.where((chunk_id == b"fmt ") & ~has_data, position, found.format_at),
        tf.where(chunk_id == b"data", position, found.data_at),
        tf.where(chunk_id == b"PEAK", position, found.peak_at),
        ~is_extra & has_its_size,
    )


def _piece(encoded: tf.Tensor, position: tf.Tensor, count: int) -> tf.Tensor:
    """Return up to ``count`` bytes; none outside of the file."""
    size = tf.cast(tf.strings.length(encoded), tf.int64)
    return tf.strings.substr(encoded, tf.clip_by_value(position, 0, size), count)


def _words(encoded: tf.Tensor, position: tf.Tensor, count: int) -> tf.Tensor:
    """Return little-endian 16-bit numbers, int64 ``[count]``; zeros outside of the file."""
    piece = _piece(encoded, position, 2 * count)
    return tf.cast(tf.io.decode_raw(piece, tf.uint16, fixed_length=2 * count), tf.int64)


def _unsigned(encoded: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Return the unsigned 32-bit number at ``position``, as int64."""
    low, high = tf.unstack(_words(encoded, position, 2))
    return low + high * (1 << 16)


def _is_chunk(encoded: tf.Tensor, size: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Return whether a whole chunk follows, or nothing, as :func:`modules.audio.riff.data_chunk` does; bool ``[]``."""
    chunk_id = _piece(encoded, position, 4)
    ends_at = position + 8 + _unsigned(encoded, position + 4)
    return (position >= size) | (tf.strings.regex_full_match(chunk_id, riff.CHUNK_ID) & (ends_at <= size))


def _read_layout(encoded: tf.Tensor, size: tf.Tensor, found: _Chunks) -> _Layout:
    """Return the fields of the header; undefined if a chunk is missing."""
    fields = tf.unstack(_words(encoded, found.format_at + 8, 8))
    stated = _unsigned(encoded, found.data_at + 4)
    present = size - found.data_at - 8
    is_unknown = (stated >= riff.UNKNOWN_DATA_BYTES) | ((stated == 0) & ~_is_chunk(encoded, size, found.data_at + 8))
    return _Layout(
        stated_code=fields[0],
        format_code=tf.where(fields[0] == _EXTENSIBLE, _extended_code(encoded, found.format_at + 8), fields[0]),
        channels=fields[1],
        sample_rate_hz=fields[2] + fields[3] * (1 << 16),
        block_bytes=fields[6],
        bits=fields[7],
        data_start=found.data_at + 8,
        data_bytes=tf.where(is_unknown, present, stated),
    )


def _extended_code(encoded: tf.Tensor, format_start: tf.Tensor) -> tf.Tensor:
    """Return the format code in the GUID of an extensible header; that of the header itself if the GUID is unknown."""
    (code,) = tf.unstack(_words(encoded, format_start + 24, 1))
    return tf.where(tf.reduce_any(_piece(encoded, format_start + 26, 14) == _GUID_ENDS), code, _EXTENSIBLE)


def _check_file(encoded: tf.Tensor, size: tf.Tensor, found: _Chunks, limits: AudioLimits) -> list[Applied]:
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
        apply(_HAS_DATA, limits, in_file=(found.data_at != _NO_CHUNK) | ~found.regular, size=size),
    ]


def _check_chunks(encoded: tf.Tensor, found: _Chunks, layout: _Layout, limits: AudioLimits) -> list[Applied]:
    format_bytes, peak_bytes = (_unsigned(encoded, at + 4) for at in (found.format_at, found.peak_at))
    peak_fits = (found.peak_at == _NO_CHUNK) | (peak_bytes == 8 + 8 * layout.channels)
    has_format = found.format_at != _NO_CHUNK
    needed = tf.where(layout.stated_code == _EXTENSIBLE, _EXTENSIBLE_BYTES, _FORMAT_BYTES)
    return [
        apply(_REGULAR_CHUNKS, limits, regular=found.regular & (peak_fits | ~has_format)),
        apply(_HAS_FORMAT, limits, in_file=has_format),
        apply(_WHOLE_FORMAT, limits, size=format_bytes, needed=tf.cast(needed, tf.int64)),
    ]


def _is_riff_wave(head: tf.Tensor) -> tf.Tensor:
    filled = tf.strings.join([head, "\0" * _HEAD_BYTES])  # the head of a short file is shorter
    return (tf.strings.substr(filled, 0, 4) == b"RIFF") & (tf.strings.substr(filled, 8, 4) == b"WAVE")


def _check_layout(encoded: tf.Tensor, layout: _Layout, size: tf.Tensor, limits: AudioLimits) -> list[Applied]:
    # libsndfile finds out by the samples what ALSA's arecord wrote.
    is_padded = (layout.stated_code == _PCM) & (layout.bits == 24) & (layout.block_bytes == 4 * layout.channels)
    is_compressed = tf.reduce_any(_piece(encoded, layout.data_start, 4) == _COMPRESSED)
    frames = layout.data_bytes // tf.maximum(layout.channels * layout.bits // 8, 1)
    return [
        apply(
            _READABLE_ENCODING,
            limits,
            readable=tf.reduce_any(_encodings_of(layout)),
            format_code=layout.format_code,
            bits=layout.bits,
        ),
        apply(_PACKED, limits, packed=~is_padded | (layout.channels == 0), block_bytes=layout.block_bytes),
        apply(_NOT_COMPRESSED, limits, plain=~is_compressed),
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
