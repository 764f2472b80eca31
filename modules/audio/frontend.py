"""Conversion of a recording at any rate to features: the whole path, shared by the ExampleGen and the served model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from modules.audio import features, resampling, speech, wav, windowing
from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits
from modules.audio.graph_checks import NO_ERROR
from modules.audio.spec import AudioSpec

HOLDS_SPEECH = 0.5
"""Probability of speech from which a window is one to train on."""


class Analysed(NamedTuple):
    """Analysis windows of a batch of recordings, one of each.

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


class Window(NamedTuple):
    """One window of a recording.

    Attributes:
        samples: float32 ``[spec.window_samples]``.
        valid_samples: Number of its samples that are sound, int32 ``[]``.
        start_sec: Start in the recording in seconds, float32 ``[]``.
        speech: Probability of speech, float32 ``[]``; see :mod:`modules.audio.speech`.
    """

    samples: tf.Tensor
    valid_samples: tf.Tensor
    start_sec: tf.Tensor
    speech: tf.Tensor


class Windows(NamedTuple):
    """Windows of a batch of recordings, those of one recording after the other.

    Attributes:
        samples: float32 ``[windows, spec.window_samples]``.
        valid_samples: Samples of each window that are sound, int32 ``[windows]``.
        recording: Position in the batch of the recording of each window, int64 ``[windows]``.
        error: string ``[batch]``: empty, or why the item cannot be used; it has one window of silence then.
    """

    samples: tf.Tensor
    valid_samples: tf.Tensor
    recording: tf.Tensor
    error: tf.Tensor


def window_of_waveform(waveform: tf.Tensor, sample_rate_hz: tf.Tensor | int, spec: AudioSpec) -> Window:
    """Return the window of a recording that training and drift analyse: the first one that holds speech.

    It is one of :func:`modules.audio.windowing.recording_starts`, whose first has the spec's offset. If none holds
    speech, it is the one with the highest probability of it.

    Args:
        waveform: float32 ``[samples]`` at ``sample_rate_hz``.
        sample_rate_hz: Sample rate of the recording, an integer scalar.
        spec: Window and features.
    """
    starts = windowing.recording_starts(_resampled_length(waveform, sample_rate_hz, spec), spec)

    def window_at(position: tf.Tensor | int) -> Window:
        samples, valid_samples = _window_from(starts[position], waveform, sample_rate_hz, spec)
        probability = speech.probabilities(samples[tf.newaxis], valid_samples[tf.newaxis], spec.sample_rate_hz)[0]
        return Window(samples, valid_samples, windowing.start_seconds(starts[position], spec), probability)

    def is_looking(position: tf.Tensor, best: Window) -> tf.Tensor:
        return (position < tf.size(starts)) & (best.speech < HOLDS_SPEECH)

    def look(position: tf.Tensor, best: Window) -> tuple[tf.Tensor, Window]:
        window = window_at(position)
        return position + 1, tf.cond(window.speech > best.speech, lambda: window, lambda: best)

    _, found = tf.while_loop(is_looking, look, (tf.constant(1), window_at(0)))
    return found


def _up_to_speech(probabilities: tf.Tensor) -> tf.Tensor:
    """Return probabilities whose first largest is the first window with speech, or the one with the most."""
    return tf.minimum(probabilities, HOLDS_SPEECH)


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
    window = window_of_waveform(waveform, sample_rate_hz, spec)
    extracted = features.extract(window.samples[tf.newaxis], window.valid_samples[tf.newaxis], spec)
    return extracted[0], features.valid_frames(window.valid_samples, spec)


def features_of_wavs(encoded: tf.Tensor, spec: AudioSpec, limits: AudioLimits = DEFAULT_LIMITS) -> Analysed:
    """Return the features of one window of each WAV file of a batch, as training has them.

    See :func:`window_of_waveform`.

    Args:
        encoded: string ``[batch]``.
        spec: How sound becomes features.
        limits: Limits of a usable recording.
    """
    windows = windows_of_wavs(encoded, spec, limits)
    probabilities = speech.probabilities(windows.samples, windows.valid_samples, spec.sample_rate_hz)
    by_recording = tf.RaggedTensor.from_value_rowids(
        probabilities, windows.recording, tf.size(windows.error, out_type=tf.int64)
    )
    rows = tf.pad(by_recording.to_tensor(-1.0), [[0, 0], [0, 1]], constant_values=-1.0)  # an empty batch has no column
    chosen = by_recording.row_starts() + tf.argmax(_up_to_speech(rows), axis=1)
    samples, valid_samples = tf.gather(windows.samples, chosen), tf.gather(windows.valid_samples, chosen)
    return Analysed(*analyse(samples, valid_samples, spec), windows.error)


def analyse(windows: tf.Tensor, valid_samples: tf.Tensor, spec: AudioSpec) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return features, valid frames and probability of speech of windows, as :class:`Analysed` describes them.

    Args:
        windows: float32 ``[windows, spec.window_samples]``.
        valid_samples: Samples of each window that are sound, int32 ``[windows]``.
        spec: Window and features.
    """
    return (
        features.extract(windows, valid_samples, spec),
        features.valid_frames(valid_samples, spec),
        speech.probabilities(windows, valid_samples, spec.sample_rate_hz),
    )


def windows_of_wavs(encoded: tf.Tensor, spec: AudioSpec, limits: AudioLimits = DEFAULT_LIMITS) -> Windows:
    """Return the windows of a batch of WAV files, each of its own rate, length and number of channels.

    They are those of :func:`modules.audio.windowing.recording_starts`.

    Args:
        encoded: string ``[batch]``.
        spec: How sound becomes features.
        limits: Limits of a usable recording.
    """
    return _windows_of(lambda item: wav.decode_wav(item, limits=limits), encoded, spec)


def windows_of_floats(
    encoded: tf.Tensor, sample_rate_hz: tf.Tensor, spec: AudioSpec, limits: AudioLimits = DEFAULT_LIMITS
) -> Windows:
    """Return the windows of a batch of samples without headers, as :func:`windows_of_wavs` does of files.

    Args:
        encoded: string ``[batch]``, one channel of little-endian float32 samples each.
        sample_rate_hz: int32 ``[batch]``.
        spec: How sound becomes features.
        limits: Limits of a usable recording.
    """
    return _windows_of(lambda item: wav.decode_floats(item[0], item[1], limits=limits), (encoded, sample_rate_hz), spec)


def _windows_of(decode: Callable[[Any], wav.Decoded], items: Any, spec: AudioSpec) -> Windows:
    def windows_of(item: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        waveform, sample_rate_hz, error = decode(item)
        windows, valid_samples = tf.cond(
            error == NO_ERROR,
            lambda: windows_of_waveform(waveform, sample_rate_hz, spec),
            lambda: (tf.zeros([1, spec.window_samples]), tf.zeros([1], tf.int32)),
        )
        return windows, valid_samples, error

    windows, valid_samples, errors = tf.map_fn(
        windows_of,
        items,
        fn_output_signature=(
            tf.RaggedTensorSpec([None, spec.window_samples], tf.float32, ragged_rank=0),
            tf.RaggedTensorSpec([None], tf.int32, ragged_rank=0),
            tf.TensorSpec([], tf.string),
        ),
    )
    samples = tf.reshape(windows.values, [-1, spec.window_samples])  # an empty batch has no shape
    return Windows(samples, valid_samples.values, windows.value_rowids(), errors)


def windows_of_waveform(waveform: tf.Tensor, sample_rate_hz: tf.Tensor, spec: AudioSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the windows of one recording that :func:`modules.audio.windowing.recording_starts` names.

    Args:
        waveform: float32 ``[samples]`` at ``sample_rate_hz``.
        sample_rate_hz: Sample rate of the recording, an integer scalar.
        spec: Window and features.

    Returns:
        float32 ``[windows, spec.window_samples]`` and the number of samples of each that are sound, int32
        ``[windows]``.
    """
    return tf.map_fn(
        lambda start: _window_from(start, waveform, sample_rate_hz, spec),
        windowing.recording_starts(_resampled_length(waveform, sample_rate_hz, spec), spec),
        fn_output_signature=(tf.TensorSpec([spec.window_samples], tf.float32), tf.TensorSpec([], tf.int32)),
    )


def _window_from(
    start: tf.Tensor, waveform: tf.Tensor, sample_rate_hz: tf.Tensor | int, spec: AudioSpec
) -> tuple[tf.Tensor, tf.Tensor]:
    size = tf.minimum(_resampled_length(waveform, sample_rate_hz, spec) - start, spec.window_samples)
    rates = {"from_rate_hz": sample_rate_hz, "to_rate_hz": spec.sample_rate_hz}
    return windowing.fill_window(resampling.resample_range(waveform, start=start, size=size, **rates), spec)


def _resampled_length(waveform: tf.Tensor, sample_rate_hz: tf.Tensor | int, spec: AudioSpec) -> tf.Tensor:
    return resampling.resampled_length(tf.size(waveform), from_rate_hz=sample_rate_hz, to_rate_hz=spec.sample_rate_hz)


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
        extracted, valid_frames, probability = analyse(window[tf.newaxis], valid_samples[tf.newaxis], spec)
        return extracted[0], valid_frames[0], probability[0]

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
