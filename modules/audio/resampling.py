"""Band-limited resampling in TensorFlow, the same at ingest and in the served model.

The sound is transformed in overlapping frames (overlap-save: Oppenheim and Schafer, Discrete-Time Signal Processing,
section 8.7). The spectrum of each frame is cut or extended to the new rate, with a cosine taper where soxr's HQ recipe
has its transition band. Between two whole-number rates the exact ratio is kept: the sound is seen as blocks of
``from_rate / gcd`` samples in and ``to_rate / gcd`` samples out, and a frame is a number of whole blocks.
"""

import itertools
import math

import numpy as np
import tensorflow as tf

PASSBAND = 0.913
"""Share of the lower of the two Nyquist frequencies that passes untouched, as in soxr's HQ recipe."""

GUARD_SAMPLES = 384
"""Samples, at the lower of the two rates, around each frame's result that are transformed with it. The response of the
filter, a raised cosine, has fallen to -120 dB there."""

FRAME_SAMPLES = 12_288
"""Samples of a frame's result, at the higher of the two rates: large against the guard, and small enough for the
processor's cache, which the transform of a whole recording is not."""


def resampled_length(samples: tf.Tensor | int, *, from_rate_hz: tf.Tensor | int, to_rate_hz: int) -> tf.Tensor:
    """Return the number of samples after resampling, int64: ``ceil(samples * to_rate_hz / from_rate_hz)``."""
    return _ceil_div(tf.cast(samples, tf.int64) * to_rate_hz, tf.cast(from_rate_hz, tf.int64))


def resample(waveform: tf.Tensor, *, from_rate_hz: tf.Tensor | int, to_rate_hz: int) -> tf.Tensor:
    """Resample a whole recording.

    Args:
        waveform: float32 ``[samples]``.
        from_rate_hz: Sample rate of ``waveform``, an integer scalar; may be a tensor.
        to_rate_hz: Sample rate of the result, an integer.

    Returns:
        float32 ``[ceil(samples * to_rate_hz / from_rate_hz)]``; the input itself when the rates are equal.
    """
    size = resampled_length(tf.size(waveform), from_rate_hz=from_rate_hz, to_rate_hz=to_rate_hz)
    return resample_range(
        waveform, from_rate_hz=from_rate_hz, to_rate_hz=to_rate_hz, start=tf.constant(0, tf.int64), size=size
    )


def resample_range(
    waveform: tf.Tensor, *, from_rate_hz: tf.Tensor | int, to_rate_hz: int, start: tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    """Return samples ``start`` to ``start + size`` of :func:`resample`, at the cost of that range alone.

    Args:
        waveform: float32 ``[samples]``, the whole recording.
        from_rate_hz: Sample rate of ``waveform``, an integer scalar.
        to_rate_hz: Sample rate of the result.
        start: int64, in samples at ``to_rate_hz``.
        size: int64, in samples at ``to_rate_hz``; the range must lie within the resampled recording.
    """
    from_rate = tf.cast(from_rate_hz, tf.int64)
    return tf.cond(
        tf.equal(from_rate, to_rate_hz),
        lambda: waveform[start : start + size],
        lambda: _resample_blocks(waveform, from_rate, to_rate_hz, start, size),
    )


def _resample_blocks(
    waveform: tf.Tensor, from_rate: tf.Tensor, to_rate: int, start: tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    divisor = _common_divisor(from_rate, to_rate)
    block_in, block_out = from_rate // divisor, to_rate // divisor
    first_block = start // block_out
    blocks = _ceil_div(start + size, block_out) - first_block
    guard = _ceil_div(GUARD_SAMPLES, tf.minimum(block_in, block_out))
    hop = tf.minimum(blocks, _ceil_div(FRAME_SAMPLES, tf.maximum(block_in, block_out)))
    length = _fast_count(tf.maximum(hop, 2 * guard) + 2 * guard)
    hop = length - 2 * guard
    frames = _frames(
        waveform,
        first=(first_block - guard) * block_in,
        count=_ceil_div(blocks, hop),
        hop=hop * block_in,
        guard=guard * block_in,
    )
    resampled = _change_length(frames, length * block_in, length * block_out)
    inner = tf.reshape(resampled[:, guard * block_out : (guard + hop) * block_out], [-1])
    skipped = start - first_block * block_out
    return inner[skipped : skipped + size]


def _frames(waveform: tf.Tensor, *, first: tf.Tensor, count: tf.Tensor, hop: tf.Tensor, guard: tf.Tensor) -> tf.Tensor:
    """Return frames of ``hop + 2 * guard`` samples every ``hop`` samples, ``[count, hop + 2 * guard]``.

    The first begins with sample ``first``; what is before the first sample of the waveform and after its last is 0.
    The overlap, ``2 * guard``, is at most a hop.
    """
    total = (count + 1) * hop
    piece = waveform[tf.maximum(first, 0) : first + count * hop + 2 * guard]
    before = tf.maximum(-first, 0)
    padded = tf.pad(piece, [[before, total - before - tf.size(piece, tf.int64)]])
    hops = tf.reshape(padded, [count + 1, hop])
    return tf.concat([hops[:-1], hops[1:, : 2 * guard]], axis=1)


def _change_length(frames: tf.Tensor, length_in: tf.Tensor, length_out: tf.Tensor) -> tf.Tensor:
    """Resample frames, ``[frames, length_in]``, each by itself and as if it were periodic."""
    spectrum = tf.signal.rfft(tf.ensure_shape(frames, [None, None]))
    gain = _taper(tf.minimum(length_in, length_out)) * tf.cast(length_out / length_in, tf.float32)
    spectrum = spectrum[:, : tf.size(gain)] * tf.cast(gain, tf.complex64)
    return tf.signal.irfft(spectrum, [tf.cast(length_out, tf.int32)])


def _taper(length: tf.Tensor) -> tf.Tensor:
    """Return the gain of each bin of a spectrum of ``length`` samples at the lower rate.

    It is 1 in the pass band, then half a cosine down to 0 at the Nyquist frequency.
    """
    bins = tf.range(length // 2 + 1)
    relative_frequency = tf.cast(2 * bins / length, tf.float32)
    transition = tf.clip_by_value((relative_frequency - PASSBAND) / (1.0 - PASSBAND), 0.0, 1.0)
    return 0.5 + 0.5 * tf.cos(np.pi * transition)


def _common_divisor(from_rate: tf.Tensor, to_rate: int) -> tf.Tensor:
    """Return the greatest common divisor: the largest divisor of the known ``to_rate`` that divides ``from_rate``."""
    divisors = tf.constant([number for number in range(1, to_rate + 1) if to_rate % number == 0], tf.int64)
    return tf.reduce_max(tf.where(from_rate % divisors == 0, divisors, 1))


def _fast_count(blocks: tf.Tensor) -> tf.Tensor:
    """Return the next number without prime factors above 5: Fourier transforms of such lengths are fast."""
    counts = tf.constant(_smooth_numbers(1 << 31), tf.int64)
    return counts[tf.searchsorted(counts, blocks[tf.newaxis])[0]]


def _smooth_numbers(limit: int) -> list[int]:
    powers = [[base**exponent for exponent in range(32) if base**exponent <= limit] for base in (2, 3, 5)]
    return sorted(number for number in map(math.prod, itertools.product(*powers)) if number <= limit)


def _ceil_div(numerator: tf.Tensor, denominator: tf.Tensor | int) -> tf.Tensor:
    return -(-numerator // denominator)
