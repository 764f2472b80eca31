"""WAV bytes to a waveform inside a TensorFlow graph: what the served model does with what a client sends.

``tf.audio.decode_wav`` reads 16-bit PCM only and stops at the extensible header that most writers use for more than
two channels or 16 bits. The samples are those of :func:`modules.audio.decoding.decode`.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from modules.audio.decoding import DEFAULT_LIMITS, MAX_WAV_CHUNKS, UNKNOWN_DATA_BYTES, AudioLimits

_PCM, _IEEE_FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_NO_CHUNK = -1


class _Layout(NamedTuple):
    """Where the samples lie and what they are; all int64 ``[]``."""

    format_code: tf.Tensor
    channels: tf.Tensor
    sample_rate_hz: tf.Tensor
    bits: tf.Tensor
    data_start: tf.Tensor
    data_bytes: tf.Tensor


def decode_wav(
    encoded: tf.Tensor, *, index: tf.Tensor | None = None, limits: AudioLimits = DEFAULT_LIMITS
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a RIFF WAV file of 8, 16, 24 or 32-bit PCM or 32 or 64-bit float, any rate and number of channels.

    Args:
        encoded: string ``[]``, the bytes of the file.
        index: Number of the item in its batch, for the error message.

    Returns:
        float32 ``[samples]``, the mean over the channels, full scale is ±1; and its rate in Hz, int32 ``[]``.

    Raises:
        tf.errors.InvalidArgumentError: with the item, what was seen and what is wanted; also for what lies outside
            ``limits``.
    """
    require = _Requirement(index)
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    format_at, data_at = _find_chunks(encoded, length, require, limits)
    layout = _read_layout(encoded, length, format_at, data_at, require)
    layout = _check_layout(layout, length, require, limits)
    waveform = _read_samples(encoded, layout)
    return _check_samples(waveform, require, limits), tf.cast(layout.sample_rate_hz, tf.int32)


class _Requirement:
    """Fails with InvalidArgumentError unless a condition holds; text is put together only on failure.

    Use as ``with require(ok, lambda: [parts]):`` around what relies on the condition: TensorFlow would otherwise run
    both at once, and might report the consequence instead of the cause.
    """

    def __init__(self, index: tf.Tensor | None) -> None:
        self._index = index

    def __call__(self, holds: tf.Tensor, parts: Callable[[], list[tf.Tensor | str]]) -> "tf.control_dependencies":
        return tf.control_dependencies([tf.cond(holds, lambda: True, lambda: self._fail(parts()))])

    def _fail(self, parts: list[tf.Tensor | str]) -> tf.Tensor:
        item = [] if self._index is None else ["item ", self._index, ": "]
        texts = [part if isinstance(part, str) else tf.strings.as_string(part) for part in [*item, *parts]]
        with tf.control_dependencies([tf.debugging.Assert(False, [tf.strings.join(texts)])]):
            return tf.constant(False)


def _find_chunks(
    encoded: tf.Tensor, length: tf.Tensor, require: _Requirement, limits: AudioLimits
) -> tuple[tf.Tensor, tf.Tensor]:
    """Positions of the ``fmt`` and the ``data`` chunk, int64."""
    with (
        require(length > 0, lambda: ["the audio is empty (0 bytes); a WAV file is wanted"]),
        require(
            length <= limits.max_bytes,
            lambda: ["the audio has ", length, f" bytes; at most {limits.max_bytes} are allowed"],
        ),
        require(_is_riff_wave(encoded), lambda: [_not_wav_text(encoded, length)]),
    ):
        state = (tf.constant(12, tf.int64), tf.constant(_NO_CHUNK, tf.int64), tf.constant(_NO_CHUNK, tf.int64))
        _, format_at, data_at = tf.while_loop(
            lambda position, format_at, data_at: (data_at == _NO_CHUNK) & (position + 8 <= length),
            lambda position, format_at, data_at: _next_chunk(encoded, position, format_at),
            state,
            maximum_iterations=MAX_WAV_CHUNKS,
        )
    return format_at, data_at


def _is_riff_wave(encoded: tf.Tensor) -> tf.Tensor:
    head = tf.strings.join([tf.strings.substr(encoded, 0, 12), "\0" * 12])  # a shorter file must not be an error here
    return (tf.strings.substr(head, 0, 4) == b"RIFF") & (tf.strings.substr(head, 8, 4) == b"WAVE")


def _not_wav_text(encoded: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, 12), tf.uint8)
    seen = tf.strings.reduce_join(tf.strings.as_string(head), separator=" ")
    return tf.strings.join(
        ["not a WAV file: its ", tf.strings.as_string(length), " bytes begin with ", seen, "; RIFF....WAVE is wanted"]
    )


def _next_chunk(
    encoded: tf.Tensor, position: tf.Tensor, format_at: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    chunk_id = tf.strings.substr(encoded, position, 4)
    size = _unsigned(encoded, position + 4)
    return (
        position + 8 + size + size % 2,
        tf.where(chunk_id == b"fmt ", position, format_at),
        tf.where(chunk_id == b"data", position, _NO_CHUNK),
    )


def _unsigned(encoded: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """The unsigned 32-bit number at ``position``, as int64."""
    halves = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, position, 4), tf.uint16), tf.int64)
    return halves[0] + halves[1] * (1 << 16)


def _read_layout(
    encoded: tf.Tensor, length: tf.Tensor, format_at: tf.Tensor, data_at: tf.Tensor, require: _Requirement
) -> _Layout:
    with (
        require(
            (data_at != _NO_CHUNK) & (data_at + 8 <= length),
            lambda: [
                f"the WAV file is truncated or damaged: no data chunk among the first {MAX_WAV_CHUNKS} in its ",
                length,
                " bytes",
            ],
        ),
        require(format_at != _NO_CHUNK, lambda: ["the WAV file has no fmt chunk before its data chunk"]),
        require(format_at + 24 <= data_at, lambda: ["the WAV file's fmt chunk is shorter than 16 bytes"]),
    ):
        fields = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, format_at + 8, 16), tf.uint16), tf.int64)
        # The extensible header gives the code that follows it, 24 bytes into the chunk.
        extended_at = tf.minimum(format_at + 8 + 24, length - 2)
        extended = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, extended_at, 2), tf.uint16), tf.int64)[0]
        promised = _unsigned(encoded, data_at + 4)
        present = length - data_at - 8
        return _Layout(
            format_code=tf.where(fields[0] == _EXTENSIBLE, extended, fields[0]),
            channels=fields[1],
            sample_rate_hz=fields[2] + fields[3] * (1 << 16),
            bits=fields[7],
            data_start=data_at + 8,
            data_bytes=tf.where(promised >= UNKNOWN_DATA_BYTES, present, promised),
        )


def _check_layout(layout: _Layout, length: tf.Tensor, require: _Requirement, limits: AudioLimits) -> _Layout:
    """Returns the layout, to be used only when it passed."""
    frames = layout.data_bytes // tf.maximum(layout.channels * layout.bits // 8, 1)
    duration_sec = tf.cast(frames, tf.float32) / tf.cast(tf.maximum(layout.sample_rate_hz, 1), tf.float32)
    with (
        require(
            tf.reduce_any(_encodings_of(layout)),
            lambda: ["format code ", layout.format_code, " with ", layout.bits, f" bits; wanted: {_ENCODING_TEXT}"],
        ),
        require(
            _within(layout.channels, 1, limits.max_channels),
            lambda: [layout.channels, f" channels; 1 to {limits.max_channels} are allowed"],
        ),
        require(
            _within(layout.sample_rate_hz, limits.min_sample_rate_hz, limits.max_sample_rate_hz),
            lambda: [
                "a sample rate of ",
                layout.sample_rate_hz,
                f" Hz; {limits.min_sample_rate_hz} to {limits.max_sample_rate_hz} Hz are allowed",
            ],
        ),
        require(
            layout.data_start + layout.data_bytes <= length,
            lambda: [
                "the WAV file is truncated: its data chunk has ",
                length - layout.data_start,
                " of ",
                layout.data_bytes,
                " bytes",
            ],
        ),
        require(frames > 0, lambda: ["the WAV file has no samples: its data chunk has length zero"]),
        require(
            _within(duration_sec, limits.min_duration_sec, limits.max_duration_sec),
            lambda: [
                "the audio lasts ",
                duration_sec,
                f" s; {limits.min_duration_sec:g} to {limits.max_duration_sec:g} s are allowed",
            ],
        ),
    ):
        return _Layout(*(tf.identity(value) for value in layout))


def _within(value: tf.Tensor, lowest: float, highest: float) -> tf.Tensor:
    return (value >= lowest) & (value <= highest)


def _read_samples(encoded: tf.Tensor, layout: _Layout) -> tf.Tensor:
    """float32 ``[samples]``, the mean over the channels."""
    frame_bytes = layout.channels * layout.bits // 8
    usable_bytes = layout.data_bytes // frame_bytes * frame_bytes
    data = tf.strings.substr(encoded, layout.data_start, usable_bytes)
    encoding = tf.argmax(tf.cast(_encodings_of(layout), tf.int32), output_type=tf.int32)
    samples = tf.switch_case(encoding, [lambda decoder=decoder: decoder(data) for decoder in _DECODERS.values()])
    return tf.reduce_mean(tf.reshape(samples, [-1, layout.channels]), axis=1)


def _check_samples(waveform: tf.Tensor, require: _Requirement, limits: AudioLimits) -> tf.Tensor:
    peak = tf.reduce_max(tf.abs(waveform))
    finite = tf.reduce_all(tf.math.is_finite(waveform))  # a maximum may pass over NaN
    with (
        require(finite, lambda: ["the audio has samples that are not finite numbers"]),
        require(
            peak > limits.silence_peak,
            lambda: ["silent audio: its peak is ", peak, f" of full scale; above {limits.silence_peak:g} needed"],
        ),
        require(
            peak <= limits.max_peak,
            lambda: ["the audio's peak is ", peak, f" times full scale; at most {limits.max_peak:g} is allowed"],
        ),
    ):
        return tf.identity(waveform)


def _pcm_24(data: tf.Tensor) -> tf.Tensor:
    """Puts the three bytes at the upper end of 32 bits, which keeps the sign."""
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

_ENCODING_TEXT = "8, 16, 24 or 32-bit PCM (code 1), 32 or 64-bit float (code 3)"


def _encodings_of(layout: _Layout) -> tf.Tensor:
    """Which of :data:`_DECODERS` fits; bool ``[decoders]``."""
    codes, bits = zip(*_DECODERS, strict=True)
    return (layout.format_code == tf.constant(codes, tf.int64)) & (layout.bits == tf.constant(bits, tf.int64))
