"""Conversion of a recording at any rate to features: the whole path, shared by the ExampleGen and the served model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from modules.audio import features, resampling, speech, wav, windowing
from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits
from modules.audio.graph_checks import NO_ERROR
from modules.audio.spec import AudioSpec


class Analysed(NamedTuple):
    """Windows of a batch of recordings.

    Attributes:
        features: float32 ``[batch, *spec.feature_shape]``.
        valid_frames: int64 ``[batch]``.
        speech: Probability of speech, float32 ``[batch]``; see :mod:`modules.audio.speech`.
        error: string ``[batch]``: empty, or why the item cannot be used; its features are then those of silence.
    """

    features: tf.Tensor
    valid_frames: tf.Tensor
    speech: tf.Tensor
    error: tf.Tensor


def window_of_waveform(
    waveform: tf.Tensor, sample_rate_hz: tf.Tensor | int, spec: AudioSpec
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resample a recording and cut its window out; only sound near the window is resampled.

    Args:
        waveform: float32 ``[samples]`` at ``sample_rate_hz``.
        sample_rate_hz: Sample rate of the recording, an integer scalar.
        spec: Window and features.

    Returns:
        float32 ``[spec.window_samples]`` and the number of its samples that are sound, int32 ``[]``.
    """
    rates = {"from_rate_hz": sample_rate_hz, "to_rate_hz": spec.sample_rate_hz}
    samples = resampling.resampled_length(tf.size(waveform), **rates)
    start = windowing.window_start(samples, spec)
    size = tf.minimum(samples - start, spec.window_samples)
    sound = resampling.resample_range(waveform, start=start, size=size, **rates)
    return windowing.fill_window(sound, spec)


def features_of_waveform(
    waveform: tf.Tensor, sample_rate_hz: tf.Tensor | int, spec: AudioSpec
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the features of one recording.

    Args:
        waveform: float32 ``[samples]`` at ``sample_rate_hz``.
        sample_rate_hz: Sample rate of the recording, an integer scalar.
        spec: Window and features.

    Returns:
        float32 ``[*spec.feature_shape]`` and the number of valid frames, int64 ``[]``.
    """
    window, valid_samples = window_of_waveform(waveform, sample_rate_hz, spec)
    extracted = features.extract(window[tf.newaxis], valid_samples[tf.newaxis], spec)
    return extracted[0], features.valid_frames(valid_samples, spec)


def features_of_wavs(encoded: tf.Tensor, spec: AudioSpec, limits: AudioLimits = DEFAULT_LIMITS) -> Analysed:
    """Return the features of a batch of WAV files, each of its own rate, length and number of channels.

    Args:
        encoded: string ``[batch]``.
        spec: How sound becomes features.
        limits: Limits of a usable recording.
    """
    return _features_of(lambda item: wav.decode_wav(item, limits=limits), encoded, spec)


def features_of_floats(
    encoded: tf.Tensor, sample_rate_hz: tf.Tensor, spec: AudioSpec, limits: AudioLimits = DEFAULT_LIMITS
) -> Analysed:
    """Return the features of a batch of samples without headers, as :func:`features_of_wavs` does of files.

    Args:
        encoded: string ``[batch]``, one channel of little-endian float32 samples each.
        sample_rate_hz: int32 ``[batch]``.
        spec: How sound becomes features.
        limits: Limits of a usable recording.
    """
    return _features_of(
        lambda item: wav.decode_floats(item[0], item[1], limits=limits), (encoded, sample_rate_hz), spec
    )


def _features_of(decode: Callable[[Any], wav.Decoded], items: Any, spec: AudioSpec) -> Analysed:
    def window_of(item: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        waveform, sample_rate_hz, error = decode(item)
        window, valid_samples = tf.cond(
            error == NO_ERROR,
            lambda: window_of_waveform(waveform, sample_rate_hz, spec),
            lambda: (tf.zeros([spec.window_samples]), tf.constant(0)),
        )
        return window, valid_samples, error

    windows, valid_samples, errors = tf.map_fn(
        window_of,
        items,
        fn_output_signature=(
            tf.TensorSpec([spec.window_samples], tf.float32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.string),
        ),
    )
    return Analysed(
        features.extract(windows, valid_samples, spec),
        features.valid_frames(valid_samples, spec),
        speech.probabilities(windows, valid_samples, spec.sample_rate_hz),
        errors,
    )


def features_of_timeline(
    waveform: tf.Tensor, sample_rate_hz: tf.Tensor | int, spec: AudioSpec, hop_sec: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the features of windows that cover a recording (:func:`modules.audio.windowing.timeline_starts`).

    The windows are taken one after the other: the spectra of a long recording's windows would not fit into memory.

    Args:
        waveform: float32 ``[samples]`` at ``sample_rate_hz``.
        sample_rate_hz: Sample rate of the recording, an integer scalar.
        spec: Window and features.
        hop_sec: Distance between the starts of two windows, in seconds.

    Returns:
        float32 ``[windows, *spec.feature_shape]``, valid frames int64 ``[windows]``, probability of speech float32
        ``[windows]``, start in seconds float32 ``[windows]``.
    """
    waveform = resampling.resample(waveform, from_rate_hz=sample_rate_hz, to_rate_hz=spec.sample_rate_hz)
    starts = windowing.timeline_starts(tf.size(waveform), spec, hop_sec)

    def features_from(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        window, valid_samples = windowing.fill_window(waveform[start : start + spec.window_samples], spec)
        window, valid_samples = window[tf.newaxis], valid_samples[tf.newaxis]
        probability = speech.probabilities(window, valid_samples, spec.sample_rate_hz)
        return (
            features.extract(window, valid_samples, spec)[0],
            features.valid_frames(valid_samples, spec)[0],
            probability[0],
        )

    extracted, valid_frames, probability = tf.map_fn(
        features_from,
        starts,
        fn_output_signature=(
            tf.TensorSpec(spec.feature_shape, tf.float32),
            tf.TensorSpec([], tf.int64),
            tf.TensorSpec([], tf.float32),
        ),
    )
    return extracted, valid_frames, probability, windowing.start_seconds(starts, spec)
