"""Probability that a window of a recording holds speech: classical measures, weighed by a logistic regression.

The measures are those of voice activity detection: energy above the window's own floor, periodicity at the lags of
voices (normalised autocorrelation, Boersma, Accurate Short-Term Analysis of the Fundamental Frequency, 1993), the
movement of pitch, the modulation spectrum of the energy (Scheirer and Slaney, Construction and Evaluation of a Robust
Multifeature Speech/Music Discriminator, 1997), its rises and falls, the correlation of low with high bands, the loudest
band, and mean and movement of the low cepstral coefficients. The regression takes each measure and its square
(:mod:`modules.audio.speech_weights`), since of most measures speech has a middle value.
``benchmarks/speech.py`` fits it and measures its errors (``docs/benchmarks/speech.md``).
"""

import functools

import numpy as np
import tensorflow as tf

from modules.audio import resampling
from modules.audio.speech_weights import BIAS, WEIGHTS

RATE_HZ = 16_000
"""Rate of the analysis, whatever the model's own is: the weights belong to it."""

_FLUX_FRAMES = (1, 4, 10)

MEASURES = (
    "active",
    "voiced",
    "continuous",
    "moving",
    "energy_deviation",
    "periodicity",
    "pitch",
    "pitch_deviation",
    "pitch_jumps",
    "pitch_step",
    "high",
    "high_voiced",
    "range",
    "contrast",
    *(f"cepstrum_{number}" for number in range(1, 8)),
    *(f"cepstrum_{number}_deviation" for number in range(1, 8)),
    *(f"cepstrum_{number}_step" for number in range(8)),
    *(f"cepstrum_{number}_deviation_voiced" for number in range(1, 8)),
    "rise",
    "fall",
    "rise_over_fall",
    "largest_rise",
    *(f"modulation_{number}" for number in range(1, 7)),
    "low_with_high",
    "low_with_high_active",
    "low_with_middle",
    "middle_with_high",
    "periodicity_with_high",
    "loudest_low_band",
    "loudest_low_band_deviation",
    "loudest_middle_band_deviation",
    *(f"flux_{step}" for step in _FLUX_FRAMES),
    "crest",
    "crest_deviation",
    "kurtosis",
    "kurtosis_deviation",
)

_FRAME_SAMPLES = 640
_HOP_SAMPLES = 256
_FFT = 1024
_FREQUENCIES_HZ = np.fft.rfftfreq(_FFT, 1 / RATE_HZ)
_LOWEST_HZ, _VOICE_HZ, _HIGH_HZ = 60, 1_500, 4_000
_SHORTEST_LAG, _LONGEST_LAG = RATE_HZ // 500, RATE_HZ // 60  # pitch of 500 to 60 Hz
_LAGS = slice(_SHORTEST_LAG - 1, _LONGEST_LAG + 1)  # with the neighbours, which a peak exceeds
_CEPSTRA, _MEL_BANDS = 8, 20
_MIN_POWER = 1e-10

_ACTIVE_DB, _AUDIBLE_DB = -30.0, -75.0  # below the loudest frames of the window; below full scale
_TOP_SHARE, _FLOOR_SHARE = 0.97, 0.1  # quantiles of the energy of frames
_FEWEST_FRAMES = 2
_STEADY_DB = 1.5  # deviation of the level; above 2 in each of 9 840 windows of speech (cut, quiet, noisy)
_VOICED_PERIODICITY = 0.6
_CONTINUOUS_OCTAVES, _MOVING_OCTAVES = 0.15, 0.004  # from frame to frame
_MODULATION_HZ = (0.2, 1.5, 3.0, 6.0, 10.0, 16.0, 32.0)  # edges; syllables have 3 to 6 Hz
_ENVELOPE_FFT = 512  # 8 s
_BAND_FLOOR_DB = -50.0  # of a mel band, below the loudest frames of the window
# Mel bands of 280 Hz to 1 kHz, 1.2 to 2.7 kHz and 3.5 to 6.7 kHz; those whose loudest is measured.
_LOW, _MIDDLE, _HIGH_BANDS = slice(1, 7), slice(7, 13), slice(14, 20)
_LOW_PEAK, _MIDDLE_PEAK = slice(0, 10), slice(8, 18)
_MOST_DEVIATIONS = 4.0

# Columns of a frame.
_ENERGY, _PERIODICITY, _PITCH, _HIGH, _CONTRAST, _FIRST_CEPSTRUM = range(6)
_FIRST_BAND = _FIRST_CEPSTRUM + _CEPSTRA
_CREST = _FIRST_BAND + _MEL_BANDS
_KURTOSIS = _CREST + 1
_COLUMNS = _KURTOSIS + 1


def probabilities(windows: tf.Tensor, valid_samples: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Return the probability that each window holds speech, float32 ``[batch]``; 0 for silence and steady sounds.

    Args:
        windows: float32 ``[batch, samples]``, the number of samples known when the graph is built.
        valid_samples: Samples of each window that are sound, int32 ``[batch]``.
        sample_rate_hz: Sample rate of the windows.
    """
    measured, possible = measures(windows, valid_samples, sample_rate_hz)
    mean, deviation, linear, square = (
        tf.constant([WEIGHTS[name][part] for name in MEASURES], tf.float32) for part in range(4)
    )
    standard = tf.clip_by_value((measured - mean) / deviation, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
    logit = BIAS + tf.reduce_sum(standard * linear + tf.square(standard) * square, axis=1)
    return tf.where(possible, tf.sigmoid(logit), 0.0)


def measures(windows: tf.Tensor, valid_samples: tf.Tensor, sample_rate_hz: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the :data:`MEASURES` of windows, float32 ``[batch, measures]``, and whether they can be speech.

    Windows that are silent or whose level is steady cannot: the level of speech moves with its syllables.

    Args:
        windows: See :func:`probabilities`.
        valid_samples: See :func:`probabilities`.
        sample_rate_hz: See :func:`probabilities`.
    """
    frames, valid = _frames(windows, valid_samples, sample_rate_hz)
    active = _active(frames, valid)
    measured = _measure(frames, valid, active)
    is_steady = measured[:, MEASURES.index("energy_deviation")] < _STEADY_DB
    return measured, (_count(active) >= _FEWEST_FRAMES) & ~is_steady


def _frames(windows: tf.Tensor, valid_samples: tf.Tensor, sample_rate_hz: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the values of frames, float32 ``[batch, frames, 35]``, and whether they lie in the sound."""
    rates = {"from_rate_hz": sample_rate_hz, "to_rate_hz": RATE_HZ}
    if sample_rate_hz != RATE_HZ:
        samples = -(-windows.shape[1] * RATE_HZ // sample_rate_hz)
        windows = tf.map_fn(
            lambda window: tf.ensure_shape(resampling.resample(window, **rates), [samples]),
            windows,
            fn_output_signature=tf.TensorSpec([samples], tf.float32),
        )
        valid_samples = tf.cast(resampling.resampled_length(valid_samples, **rates), tf.int32)
    windows = tf.pad(windows, [[0, 0], [0, tf.maximum(_FRAME_SAMPLES - tf.shape(windows)[1], 0)]])
    framed = tf.signal.frame(windows, _FRAME_SAMPLES, _HOP_SAMPLES)
    batch, frames = tf.shape(framed)[0], tf.shape(framed)[1]
    columns = _columns(tf.reshape(framed, [batch * frames, _FRAME_SAMPLES]))
    inside = 1 + tf.maximum(valid_samples - _FRAME_SAMPLES, 0) // _HOP_SAMPLES
    return tf.reshape(columns, [batch, frames, _COLUMNS]), tf.sequence_mask(inside, frames)


def _active(frames: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    energy = frames[:, :, _ENERGY]
    return valid & (energy > _level(energy, valid, _TOP_SHARE) + _ACTIVE_DB) & (energy > _AUDIBLE_DB)


def _columns(framed: tf.Tensor) -> tf.Tensor:
    framed -= tf.reduce_mean(framed, axis=1, keepdims=True)
    spectrum = tf.signal.rfft(framed * tf.constant(_window(), tf.float32), [_FFT])
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    power *= tf.constant(_FREQUENCIES_HZ >= _LOWEST_HZ, tf.float32)
    total = tf.reduce_sum(power, axis=1)
    periodicity, pitch = _voice(power[:, : len(_autocorrelation())])
    high = tf.reduce_sum(power[:, int(np.searchsorted(_FREQUENCIES_HZ, _HIGH_HZ, side="right")) :], axis=1)
    levels = _decibels(tf.matmul(power, tf.constant(_mel_bank(), tf.float32)))
    cepstra = tf.signal.mfccs_from_log_mel_spectrograms(levels)[:, :_CEPSTRA]
    columns = (
        _decibels(total),
        periodicity,
        pitch,
        high / tf.maximum(total, _MIN_POWER),
        tf.math.reduce_std(levels, axis=1),
    )
    return tf.concat([tf.stack(columns, axis=1), cepstra, levels, _peakedness(framed)], axis=1)


def _peakedness(framed: tf.Tensor) -> tf.Tensor:
    """Return logarithms of crest factor and kurtosis of frames without offset, ``[frames, 2]``: high for clicks."""
    power = tf.reduce_mean(tf.square(framed), axis=1) + 1e-12
    crest = tf.reduce_max(tf.abs(framed), axis=1) / tf.sqrt(power)
    kurtosis = tf.reduce_mean(tf.square(tf.square(framed)), axis=1) / tf.square(power)
    return tf.math.log(tf.stack([crest, kurtosis], axis=1) + 1e-6)


def _decibels(power: tf.Tensor) -> tf.Tensor:
    return 10 / np.log(10) * tf.math.log(power / (_FFT * _FRAME_SAMPLES) + _MIN_POWER)


def _voice(power: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the highest peak of the normalised autocorrelation at the lags of voices, and its pitch in octaves.

    Args:
        power: Power at the frequencies up to :data:`_VOICE_HZ`, float32 ``[frames, frequencies]``.
    """
    correlation = tf.matmul(power, tf.constant(_autocorrelation(), tf.float32))
    relative = correlation[:, 1:] / tf.maximum(correlation[:, :1], _MIN_POWER)
    relative /= tf.constant(_window_correlation()[_LAGS], tf.float32)
    inner = relative[:, 1:-1]
    peaks = tf.where((inner >= relative[:, :-2]) & (inner >= relative[:, 2:]), inner, 0.0)
    lag = tf.cast(tf.argmax(peaks, axis=1), tf.float32) + _SHORTEST_LAG
    return tf.clip_by_value(tf.reduce_max(peaks, axis=1), 0, 1), tf.math.log(RATE_HZ / lag) / np.log(2)


def _measure(frames: tf.Tensor, valid: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    energy, pitch, cepstra = frames[:, :, _ENERGY], frames[:, :, _PITCH], frames[:, :, _FIRST_CEPSTRUM:_FIRST_BAND]
    top, floor = _level(energy, valid, _TOP_SHARE), _level(energy, valid, _FLOOR_SHARE)
    voiced = active & (frames[:, :, _PERIODICITY] > _VOICED_PERIODICITY)
    steps = tf.abs(pitch[:, 1:] - pitch[:, :-1])
    both_voiced = voiced[:, 1:] & voiced[:, :-1]
    continuous = both_voiced & (steps < _CONTINUOUS_OCTAVES)
    moving = continuous & (steps > _MOVING_OCTAVES)
    envelope = tf.maximum(energy, top + _ACTIVE_DB - 10)
    in_voice = tf.where(_count(voiced)[:, tf.newaxis] >= 3, voiced, active)
    lengths = _count(valid)
    both = active[:, 1:] & active[:, :-1]
    columns = (
        _count(active) / lengths,
        _count(voiced) / lengths,
        _count(continuous) / lengths,
        _count(moving) / tf.maximum(_count(voiced), 1),
        _deviation(envelope, valid),
        _mean(frames[:, :, _PERIODICITY], active),
        _mean(pitch, voiced, empty=np.log2(_LOWEST_HZ)),
        _deviation(pitch, voiced),
        _mean(tf.cast(steps > _CONTINUOUS_OCTAVES, tf.float32), both_voiced),
        tf.math.log(_mean(tf.minimum(steps, _CONTINUOUS_OCTAVES), both_voiced) + 1e-3),
        _mean(frames[:, :, _HIGH], active),
        _mean(frames[:, :, _HIGH], in_voice),
        tf.minimum(top - floor, -_ACTIVE_DB + 10)[:, 0],
        _mean(frames[:, :, _CONTRAST], active),
    )
    measured = [
        tf.stack(columns, axis=1),
        _mean(cepstra, active)[:, 1:],
        _deviation(cepstra, active)[:, 1:],
        tf.math.log(_mean(tf.abs(cepstra[:, 1:] - cepstra[:, :-1]), both) + 0.1),
        _deviation(cepstra, in_voice)[:, 1:],
        _movement(envelope, valid),
        _modulation(envelope, valid),
        *_bands(frames, top + _BAND_FLOOR_DB, valid, active, voiced),
        *(
            statistic(frames[:, :, column], active)[:, tf.newaxis]
            for column in (_CREST, _KURTOSIS)
            for statistic in (_mean, _deviation)
        ),
    ]
    return tf.concat(measured, axis=1)


def _count(mask: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)


def _mean(values: tf.Tensor, mask: tf.Tensor, empty: float = 0.0) -> tf.Tensor:
    weights = tf.cast(mask, tf.float32)
    count = tf.reduce_sum(weights, axis=1)
    if values.shape.rank == 3:
        weights, count = weights[:, :, tf.newaxis], count[:, tf.newaxis]
    return tf.where(count > 0, tf.reduce_sum(values * weights, axis=1) / tf.maximum(count, 1), empty)


def _deviation(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    mean = _mean(values, mask)
    return tf.sqrt(_mean(tf.square(values - mean[:, tf.newaxis]), mask))


def _level(energy: tf.Tensor, valid: tf.Tensor, share: float) -> tf.Tensor:
    """Return the energy that a share of the valid frames does not exceed, ``[windows, 1]``."""
    ascending = tf.sort(tf.where(valid, energy, energy.dtype.max), axis=1)
    position = tf.cast(tf.round(share * tf.maximum(_count(valid) - 1, 0)), tf.int32)
    return tf.gather(ascending, position[:, tf.newaxis], batch_dims=1)


def _movement(envelope: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Return power of the rises and of the falls of the envelope, their ratio (logarithms), and the largest rise."""
    step = tf.where(valid[:, 1:], envelope[:, 1:] - envelope[:, :-1], 0.0)
    rise, fall = (tf.math.log(_mean(tf.square(tf.maximum(sign * step, 0)), valid[:, 1:]) + 0.1) for sign in (1.0, -1.0))
    return tf.stack([rise, fall, rise - fall, tf.reduce_max(tf.maximum(step, 0), axis=1)], axis=1)


def _modulation(envelope: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Return logarithms of the shares of the envelope's power between the :data:`_MODULATION_HZ`."""
    centred = tf.where(valid, envelope - _mean(envelope, valid)[:, tf.newaxis], 0.0)
    position = (tf.cast(tf.range(tf.shape(valid)[1]), tf.float32) + 0.5) / tf.maximum(_count(valid), 1)[:, tf.newaxis]
    spectrum = tf.signal.rfft(centred * tf.square(tf.sin(np.pi * position)), [_ENVELOPE_FFT])
    rates_hz = np.fft.rfftfreq(_ENVELOPE_FFT, _HOP_SAMPLES / RATE_HZ)[:, np.newaxis]
    inside = (rates_hz >= _MODULATION_HZ[:-1]) & (rates_hz < _MODULATION_HZ[1:])
    power = tf.matmul(tf.square(tf.abs(spectrum)), tf.constant(inside, tf.float32)) + 1
    return tf.math.log(power / tf.reduce_sum(power, axis=1, keepdims=True) + 1e-3)


def _bands(
    frames: tf.Tensor, floor: tf.Tensor, valid: tf.Tensor, active: tf.Tensor, voiced: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return correlations and loudest places of the bands, and the spectral flux: vowels and consonants alternate."""
    bands = frames[:, :, _FIRST_BAND:_CREST]
    levels = tf.maximum(bands, floor[:, :, tf.newaxis])
    low, middle, high = (tf.reduce_mean(levels[:, :, part], axis=2) for part in (_LOW, _MIDDLE, _HIGH_BANDS))
    low_peak, middle_peak = (
        tf.cast(tf.argmax(bands[:, :, part], axis=2), tf.float32) for part in (_LOW_PEAK, _MIDDLE_PEAK)
    )
    columns = (
        _correlation(low, high, valid),
        _correlation(low, high, active),
        _correlation(low, middle, valid),
        _correlation(middle, high, valid),
        _correlation(10 * frames[:, :, _PERIODICITY], high - low, active),
        _mean(low_peak, active),
        _deviation(low_peak, active),
        _deviation(middle_peak, voiced),
    )
    return tf.stack(columns, axis=1), _flux(levels, active)


def _flux(levels: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """Return logarithms of the mean distance of spectra that lie :data:`_FLUX_FRAMES` apart, whatever their level."""
    shape = levels - tf.reduce_mean(levels, axis=2, keepdims=True)
    distances = [
        _mean(
            tf.sqrt(tf.reduce_mean(tf.square(shape[:, step:] - shape[:, :-step]), axis=2)),
            active[:, step:] & active[:, :-step],
        )
        for step in _FLUX_FRAMES
    ]
    return tf.math.log(tf.stack(distances, axis=1) + 0.3)


def _correlation(one: tf.Tensor, other: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return Pearson's correlation over the frames of the mask; that of values that hardly move is close to 0."""
    one, other = (values - _mean(values, mask)[:, tf.newaxis] for values in (one, other))
    power = _mean(tf.square(one), mask) * _mean(tf.square(other), mask)
    return _mean(one * other, mask) / (tf.sqrt(power) + 1)


def _window() -> np.ndarray:
    return np.hanning(_FRAME_SAMPLES + 1)[:-1]


@functools.cache
def _autocorrelation() -> np.ndarray:
    """Return the matrix from power at the voice's frequencies to the autocorrelation at lag 0 and at the voice's lags.

    It is the part of an inverse Fourier transform that is needed, ``[frequencies, 1 + lags]``.
    """
    frequencies = np.flatnonzero(_FREQUENCIES_HZ <= _VOICE_HZ)
    lags = np.r_[0, np.arange(_FFT)[_LAGS]]
    shares = np.where(frequencies == 0, 1, 2) / _FFT  # all but 0 Hz stand for two of the whole spectrum
    return shares[:, np.newaxis] * np.cos(2 * np.pi / _FFT * np.outer(frequencies, lags))


def _window_correlation() -> np.ndarray:
    correlation = np.fft.irfft(np.abs(np.fft.rfft(_window(), 2 * _FRAME_SAMPLES)) ** 2)
    return correlation / correlation[0]


@functools.cache
def _mel_bank() -> np.ndarray:
    """Return triangles between 80 Hz and 7.6 kHz on the mel scale of HTK, ``[frequencies, bands]``."""
    import librosa  # takes seconds

    return librosa.filters.mel(
        sr=RATE_HZ, n_fft=_FFT, n_mels=_MEL_BANDS, fmin=80, fmax=7600, htk=True, norm=None, dtype=np.float64
    ).T
