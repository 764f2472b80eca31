"""Conversion of sound to features: one function, for the ExampleGen and for the served model.

librosa is the reference (`tests/modules/audio/test_features.py`). A clip shorter than the window has the features that
librosa gives for the clip alone: frames beyond its end do not enter the statistics.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from modules.audio.encoder import whisper
from modules.audio.spec import CHROMA_BINS, AudioSpec

AMIN_POWER = 1e-10
"""Power that counts as none: -100 dB. The default of ``librosa.power_to_db``."""

TOP_DB = 80.0
"""Cells further below the clip's loudest one are raised to this distance. The default of ``librosa.power_to_db``."""

PADDING_DB = 10 * math.log10(AMIN_POWER)
"""Log-mel value of frames beyond the clip's end: what librosa gives for power that counts as none."""

ZERO_CROSSING_THRESHOLD = 1e-10
"""Samples at or below it count as zero, which has a positive sign. The default of ``librosa.zero_crossings``."""

MEL_GROUP_BANDS = 16
"""Mel bands multiplied at a time; measured fastest at the default spec, half the time of all 128 at once."""


class Operations(NamedTuple):
    """Steps of :func:`extract` that an edge runtime computes otherwise than TensorFlow.

    Attributes:
        sound_mask: Function of ``valid_samples``, int32 ``[batch]``, and the spec: whether a sample is sound, bool
            ``[batch, spec.window_samples]``.
        power_spectrum: Function of windows, float32 ``[batch, spec.window_samples]``, and the spec: power, float32
            ``[batch, spec.window_frames, spec.n_fft // 2 + 1]``.
        product: Function of values, float32 ``[..., size]``, and a constant matrix, float32 ``[size, outputs]``: their
            product, float32 ``[..., outputs]``.
    """

    sound_mask: Callable[[tf.Tensor, AudioSpec], tf.Tensor]
    power_spectrum: Callable[[tf.Tensor, AudioSpec], tf.Tensor]
    product: Callable[[tf.Tensor, np.ndarray], tf.Tensor]


def extract(
    waveforms: tf.Tensor, valid_samples: tf.Tensor, spec: AudioSpec, operations: Operations | None = None
) -> tf.Tensor:
    """Compute the features of a batch of windows.

    Args:
        waveforms: float32 ``[batch, spec.window_samples]`` at ``spec.sample_rate_hz``.
        valid_samples: int32 ``[batch]``; what comes after them in a window is ignored.
        spec: Family and parameters of the features.
        operations: Steps in place of TensorFlow's.

    Returns:
        float32 ``[batch, *spec.feature_shape]``. Family ``utterance``: means over time of zero-crossing rate, RMS,
        chroma (tuning 0), mel power and MFCC, in this order. Family ``logmel``: dB re 1, frames by mel bands, with
        :data:`PADDING_DB` in the frames beyond the clip's end. Family ``encoder``: frames by channels of the named
        blocks, 0 in the frames beyond the clip's end where frames are averaged.
    """
    waveforms = tf.ensure_shape(waveforms, [None, spec.window_samples])
    steps = operations or _TENSORFLOW
    sound = steps.sound_mask(valid_samples, spec)
    waveforms = tf.where(sound, waveforms, 0.0)
    frames = valid_frames(valid_samples, spec)
    if spec.feature_family == "encoder":
        return _encoded(waveforms, frames, spec)
    power = steps.power_spectrum(waveforms, spec)
    mel_power = _mel_power(power, spec, steps)
    logmel = _power_to_db(mel_power, frames, spec)
    if spec.feature_family == "logmel":
        return logmel
    return tf.concat(
        [
            _zero_crossing_rate(waveforms, sound, frames, spec)[:, tf.newaxis],
            _mean_over_time(_rms(waveforms, spec)[:, :, tf.newaxis], frames, spec),
            _mean_over_time(_chroma(power, spec, steps), frames, spec),
            _mean_over_time(mel_power, frames, spec),
            # The cosine transform is linear: that of the mean is the mean of those of the frames.
            steps.product(_mean_over_time(logmel, frames, spec), _cosine_transform(spec)),
        ],
        axis=1,
    )


def valid_frames(valid_samples: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return the number of frames of librosa, int64 ``[batch]``, the first centred on the first sample."""
    if spec.feature_family == "encoder":
        frames = -(-valid_samples // spec.encoder_frame_samples)
        return tf.cast(tf.clip_by_value(frames, 1, spec.window_frames), tf.int64)
    return tf.cast(1 + valid_samples // spec.hop_samples, tf.int64)


def feature_names(spec: AudioSpec) -> list[str]:
    """Return the names along the last axis of the features, such as ``chroma_03``, ``mel_017``."""
    if spec.feature_family == "encoder":
        channels = spec.feature_shape[1] // len(spec.encoder_blocks)
        return [f"block_{block}_{channel:03d}" for block in spec.encoder_blocks for channel in range(channels)]
    mel = [f"mel_{band:03d}" for band in range(spec.mel_bands)]
    if spec.feature_family == "logmel":
        return mel
    chroma = [f"chroma_{pitch:02d}" for pitch in range(CHROMA_BINS)]
    return ["zcr", "rms", *chroma, *mel, *(f"mfcc_{number:03d}" for number in range(spec.mfcc_coefficients))]


def described_names(spec: AudioSpec) -> list[str]:
    """Return the names for people: those of mel bands with the centre of the band, such as ``mel_017 (456 Hz)``."""
    import librosa  # takes seconds

    centres_hz = librosa.mel_frequencies(n_mels=spec.mel_bands + 2, fmin=0.0, fmax=spec.sample_rate_hz / 2)[1:-1]
    described = {f"mel_{band:03d}": f"mel_{band:03d} ({centre:.0f} Hz)" for band, centre in enumerate(centres_hz)}
    return [described.get(name, name) for name in feature_names(spec)]


def _encoded(waveforms: tf.Tensor, frames: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return means of adjacent encoder frames, ``[batch, frames, channels]``. Its last frames may be left over."""
    outputs = whisper.outputs(waveforms, spec.encoder, spec.encoder_blocks)
    used = outputs[:, : spec.window_frames * spec.encoder_pool_frames]
    shape = [-1, spec.window_frames, spec.encoder_pool_frames, spec.feature_shape[1]]
    pooled = tf.reduce_mean(tf.reshape(used, shape), axis=2)
    if spec.encoder_pool_frames == 1:  # blocks that are trained attend to the whole window, as those before them
        return pooled
    return tf.where(tf.sequence_mask(frames, spec.window_frames)[:, :, tf.newaxis], pooled, 0.0)


def _power_spectrum(waveforms: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return float32 ``[batch, frames, n_fft // 2 + 1]``.

    librosa transforms in double precision. The rounding of single precision shows in cells 80 dB below a loud one in
    the same frame, by less than 0.001 dB in real speech.
    """
    spectrum = tf.signal.rfft(windowed_frames(waveforms, spec))
    return tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))


_TENSORFLOW = Operations(
    sound_mask=lambda valid_samples, spec: tf.sequence_mask(valid_samples, spec.window_samples),
    power_spectrum=_power_spectrum,
    product=tf.matmul,
)


def windowed_frames(waveforms: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return frames under the Hann window, centred and with zeros beyond both ends.

    Args:
        waveforms: float32 ``[batch, spec.window_samples]``.
        spec: Length and distance of the frames.

    Returns:
        float32 ``[batch, spec.window_frames, spec.n_fft]``.
    """
    half = spec.n_fft // 2
    frames = tf.signal.frame(tf.pad(waveforms, [[0, 0], [half, half]]), spec.n_fft, spec.hop_samples)
    return frames * tf.constant(_hann_window(spec.n_fft), tf.float32)


def _mel_power(power: tf.Tensor, spec: AudioSpec, steps: Operations) -> tf.Tensor:
    """Return ``[batch, frames, mel_bands]``. Only the narrow range of bins of adjacent bands is multiplied."""
    bins = spec.n_fft // 2 + 1
    rows = tf.reshape(power, [-1, bins])
    groups = [steps.product(rows[:, first:last], filters) for first, last, filters in _mel_filter_groups(spec)]
    return tf.reshape(tf.concat(groups, axis=1), [-1, spec.window_frames, spec.mel_bands])


def _power_to_db(power: tf.Tensor, frames: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    decibels = (10 / math.log(10)) * tf.math.log(tf.maximum(power, AMIN_POWER))
    inside = tf.sequence_mask(frames, spec.window_frames)[:, :, tf.newaxis]
    decibels = tf.where(inside, decibels, PADDING_DB)
    loudest = tf.reduce_max(decibels, axis=[1, 2], keepdims=True)
    return tf.where(inside, tf.maximum(decibels, loudest - TOP_DB), PADDING_DB)


def _chroma(power: tf.Tensor, spec: AudioSpec, steps: Operations) -> tf.Tensor:
    """Return ``[batch, frames, 12]``, of the magnitude spectrum; each frame's maximum is 1, silent frames stay 0."""
    chroma = steps.product(tf.sqrt(power), _chroma_filters(spec))
    largest = tf.reduce_max(chroma, axis=2, keepdims=True)
    return chroma / tf.where(largest < np.finfo(np.float32).tiny, 1.0, largest)


def _rms(waveforms: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return ``[batch, frames]``, before the Hann window, as sums of blocks of the largest common length."""
    half = spec.n_fft // 2
    block = math.gcd(spec.n_fft, spec.hop_samples, half)
    whole = (spec.window_frames - 1) * spec.hop_samples + spec.n_fft
    padded = tf.pad(waveforms, [[0, 0], [half, half]])[:, :whole]
    energies = tf.reduce_mean(tf.square(tf.reshape(padded, [-1, whole // block, block])), axis=2, keepdims=True)
    power = tf.nn.avg_pool1d(energies, spec.n_fft // block, spec.hop_samples // block, "VALID")
    return tf.sqrt(power[:, :, 0])


def _zero_crossing_rate(waveforms: tf.Tensor, sound: tf.Tensor, frames: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return the mean over frames, ``[batch]``, without making frames: each crossing counts once per frame around it.

    librosa repeats the first and last sample beyond the ends, where therefore nothing crosses, and ignores the first
    sample of every frame.
    """
    negative = waveforms < -ZERO_CROSSING_THRESHOLD
    crosses = tf.math.logical_xor(negative[:, 1:], negative[:, :-1]) & sound[:, 1:]
    position = np.arange(1, spec.window_samples) + spec.n_fft // 2  # in the signal with the padding
    first_frame = np.maximum(-((spec.n_fft - 1 - position) // spec.hop_samples), 0)
    last_frame = (position - 1) // spec.hop_samples
    frame_count = tf.cast(frames, tf.float32)
    last_frame = tf.minimum(last_frame.astype(np.float32), frame_count[:, tf.newaxis] - 1)
    covering_frames = last_frame - (first_frame - 1).astype(np.float32)
    return tf.reduce_sum(tf.where(crosses, covering_frames, 0.0), axis=1) / (frame_count * spec.n_fft)


def _mean_over_time(values: tf.Tensor, frames: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Average ``[batch, frames, n]`` to ``[batch, n]``, over each clip's own frames."""
    weights = tf.sequence_mask(frames, spec.window_frames, tf.float32) / tf.cast(frames, tf.float32)[:, tf.newaxis]
    return tf.matmul(weights[:, tf.newaxis, :], values)[:, 0, :]


# The constants below come from librosa and SciPy when the graph is built; the graph itself needs neither. librosa is
# imported there because it takes seconds, which callers that only need feature names should not pay.


@functools.cache
def _hann_window(n_fft: int) -> np.ndarray:
    """Return a periodic window, float64: quiet cells show the single precision of ``tf.signal.hann_window``."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)


@functools.cache
def _mel_filter_groups(spec: AudioSpec) -> list[tuple[int, int, np.ndarray]]:
    """Return the Slaney filters in groups of neighbouring bands: first bin, last bin + 1, ``[bins, bands]``."""
    import librosa

    filters = librosa.filters.mel(sr=spec.sample_rate_hz, n_fft=spec.n_fft, n_mels=spec.mel_bands)
    groups = []
    for bands in np.array_split(filters.T, math.ceil(spec.mel_bands / MEL_GROUP_BANDS), axis=1):
        used_bins = np.flatnonzero(bands.any(axis=1))
        # Where the bands are finer than the bins, a whole group may be empty.
        first, last = (int(used_bins[0]), int(used_bins[-1]) + 1) if len(used_bins) else (0, 1)
        groups.append((first, last, np.ascontiguousarray(bands[first:last], np.float32)))
    return groups


@functools.cache
def _chroma_filters(spec: AudioSpec) -> np.ndarray:
    import librosa

    filters = librosa.filters.chroma(sr=spec.sample_rate_hz, n_fft=spec.n_fft, tuning=0.0, n_chroma=CHROMA_BINS)
    return np.ascontiguousarray(filters.T, np.float32)


@functools.cache
def _cosine_transform(spec: AudioSpec) -> np.ndarray:
    """Return the orthonormal DCT-II over all mel bands, a matrix ``[mel_bands, mfcc_coefficients]``."""
    import scipy.fft

    matrix = scipy.fft.dct(np.eye(spec.mel_bands), type=2, norm="ortho", axis=1)
    return matrix[:, : spec.mfcc_coefficients].astype(np.float32)
