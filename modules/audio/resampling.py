"""Band-limited resampling in TensorFlow, the same at ingest and in the served model.

The spectrum of a piece of sound is cut or extended to the new rate, with a cosine taper where soxr's HQ recipe has
its transition band. Between two whole-number rates the exact ratio is kept: the sound is seen as blocks of
``from_rate / gcd`` samples in and ``to_rate / gcd`` samples out, and only whole blocks are transformed.
"""

import itertools
import math

import numpy as np
import tensorflow as tf

PASSBAND = 0.913
"""Share of the lower of the two Nyquist frequencies that passes untouched, as in soxr's HQ recipe."""

GUARD_SEC = 0.1
"""Sound around the returned range that is transformed with it. The filter's response has fallen below -120 dB there."""


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
    guard_out = round(GUARD_SEC * to_rate)
    first_block = tf.maximum(start - guard_out, 0) // block_out
    last_sample = _ceil_div((start + size + guard_out) * block_in, block_out)
    piece = waveform[first_block * block_in : last_sample]
    # The transform is circular: silence at the end keeps it from wrapping round into the start.
    guard_in = tf.cast(GUARD_SEC * tf.cast(from_rate, tf.float64), tf.int64)
    blocks = _fast_count(_ceil_div(tf.size(piece, tf.int64) + guard_in, block_in))
    resampled = _change_length(piece, blocks * block_in, blocks * block_out)
    skipped = start - first_block * block_out
    return resampled[skipped : skipped + size]


def _change_length(waveform: tf.Tensor, length_in: tf.Tensor, length_out: tf.Tensor) -> tf.Tensor:
    padded = tf.pad(waveform, [[0, length_in - tf.size(waveform, tf.int64)]])
    spectrum = tf.signal.rfft(padded, [tf.cast(length_in, tf.int32)])
    kept_bins = tf.minimum(length_in, length_out) // 2 + 1
    gain = _taper(kept_bins) * tf.cast(length_out / length_in, tf.float32)
    spectrum = spectrum[:kept_bins] * tf.cast(gain, tf.complex64)
    return tf.signal.irfft(spectrum, [tf.cast(length_out, tf.int32)])


def _taper(bins: tf.Tensor) -> tf.Tensor:
    """Return the gain from 0 Hz to the lower Nyquist frequency: 1 in the pass band, then half a cosine down to 0."""
    relative_frequency = tf.linspace(0.0, 1.0, bins)
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
