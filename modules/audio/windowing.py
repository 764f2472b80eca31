"""Windows of a recording for the analysis."""

import tensorflow as tf

from modules.audio.spec import AudioSpec


def window_start(samples: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return the first sample of the analysed window, int64 ``[]``.

    It is the spec's offset, or an earlier one if the recording would end inside the window.

    Args:
        samples: Length of the recording at the spec's rate, an integer ``[]``.
        spec: Length and offset of the window.
    """
    latest_full = tf.maximum(tf.cast(samples, tf.int64) - spec.window_samples, 0)
    return tf.minimum(tf.constant(spec.window_offset_samples, tf.int64), latest_full)


def recording_starts(samples: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return the first samples of the windows that the answer to a whole recording needs, int64 ``[windows]``.

    The first is that of :func:`window_start`. If half a window or more lies beyond it, the last window ends with the
    recording, and the others lie evenly between, as few as cover everything.

    Args:
        samples: Length of the recording at the spec's rate, an integer ``[]``.
        spec: Length and offset of the window.
    """
    first = window_start(samples, spec)
    beyond = tf.maximum(tf.cast(samples, tf.int64) - spec.window_samples - first, 0)
    further = tf.where(beyond < spec.window_samples // 2, tf.constant(0, tf.int64), -(-beyond // spec.window_samples))
    return first + tf.range(further + 1) * beyond // tf.maximum(further, 1)


def fill_window(sound: tf.Tensor, spec: AudioSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Pad the sound of a window with zeros.

    Args:
        sound: float32 ``[samples]``, at most ``spec.window_samples``.
        spec: Length of the window.

    Returns:
        float32 ``[spec.window_samples]``, with zeros at the end, and the number of samples of sound, int32 ``[]``.
    """
    valid_samples = tf.size(sound)
    filled = tf.pad(sound, [[0, spec.window_samples - valid_samples]])
    return tf.ensure_shape(filled, [spec.window_samples]), valid_samples


def timeline_starts(samples: tf.Tensor, spec: AudioSpec, hop_sec: float) -> tf.Tensor:
    """Return the first samples of the windows that cover a whole recording, int64 ``[windows]``.

    They are ``hop_sec`` apart, but the last window ends with the recording. A recording that is shorter than the window
    has a single one.

    Args:
        samples: Length of the recording at the spec's rate, an integer ``[]``.
        spec: Length of a window.
        hop_sec: Distance between the starts of two windows, in seconds.

    Raises:
        ValueError: ``hop_sec`` is less than one sample.
    """
    hop_samples = round(hop_sec * spec.sample_rate_hz)
    if hop_samples < 1:
        raise ValueError(f"hop_sec is {hop_sec}; it must be at least one sample, {1 / spec.sample_rate_hz:.1e} s")
    latest = tf.maximum(tf.cast(samples, tf.int64) - spec.window_samples, 0)
    hops = -(-latest // hop_samples)
    return tf.minimum(tf.range(hops + 1) * hop_samples, latest)


def start_seconds(starts: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return sample numbers at the spec's rate as seconds, float32."""
    return tf.cast(tf.cast(starts, tf.float64) / spec.sample_rate_hz, tf.float32)
