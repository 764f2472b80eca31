"""Windows of a recording for the analysis."""

import tensorflow as tf

from modules.audio.spec import AudioSpec


def window_start(samples: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """First sample of the window, int64, in a recording of ``samples`` at the spec's rate.

    It is the spec's offset, or earlier when the recording would otherwise end inside the window.
    """
    latest_full = tf.maximum(tf.cast(samples, tf.int64) - spec.window_samples, 0)
    return tf.minimum(tf.constant(spec.window_offset_samples, tf.int64), latest_full)


def window(waveform: tf.Tensor, spec: AudioSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Cut the analysed window out of a recording.

    Args:
        waveform: float32 ``[samples]`` at ``spec.sample_rate_hz``.
        spec: Length and offset of the window.

    Returns:
        float32 ``[spec.window_samples]``, filled up with zeros at the end, and the number of samples that are sound,
        int32 ``[]``.
    """
    start = window_start(tf.size(waveform, tf.int64), spec)
    return fill_window(waveform[start : start + spec.window_samples], spec)


def fill_window(sound: tf.Tensor, spec: AudioSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Pad ``sound``, float32 of at most ``spec.window_samples``, with zeros; return as :func:`window` does."""
    valid_samples = tf.size(sound)
    filled = tf.pad(sound, [[0, spec.window_samples - valid_samples]])
    return tf.ensure_shape(filled, [spec.window_samples]), valid_samples


def timeline_starts(samples: tf.Tensor, spec: AudioSpec, hop_sec: float) -> tf.Tensor:
    """First samples of the windows that cover a whole recording, int64 ``[windows]``.

    They are ``hop_sec`` apart, except that the last one ends with the recording; one that is shorter than the window
    has a single window.
    """
    hop_samples = round(hop_sec * spec.sample_rate_hz)
    if hop_samples < 1:
        raise ValueError(f"hop_sec is {hop_sec}; it must be at least one sample, {1 / spec.sample_rate_hz:.1e} s")
    latest = tf.maximum(tf.cast(samples, tf.int64) - spec.window_samples, 0)
    hops = -(-latest // hop_samples)
    return tf.minimum(tf.range(hops + 1) * hop_samples, latest)


def timeline_windows(waveform: tf.Tensor, spec: AudioSpec, hop_sec: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cut a long recording into windows that cover all of it.

    Args:
        waveform: float32 ``[samples]`` at ``spec.sample_rate_hz``.
        spec: Length of a window.
        hop_sec: Distance between the starts of two windows, in seconds.

    Returns:
        float32 ``[windows, spec.window_samples]``, int32 valid samples ``[windows]``, and the start of each window in
        seconds, float32 ``[windows]``.
    """
    samples = tf.size(waveform)
    starts = timeline_starts(samples, spec, hop_sec)
    padded = tf.pad(waveform, [[0, tf.maximum(spec.window_samples - samples, 0)]])
    windows = tf.map_fn(
        lambda start: padded[start : start + spec.window_samples],
        starts,
        fn_output_signature=tf.TensorSpec([spec.window_samples], tf.float32),
    )
    valid_samples = tf.fill(tf.shape(starts), tf.minimum(samples, spec.window_samples))
    return windows, valid_samples, start_seconds(starts, spec)


def start_seconds(starts: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Sample numbers at the spec's rate as seconds, float32."""
    return tf.cast(tf.cast(starts, tf.float64) / spec.sample_rate_hz, tf.float32)
