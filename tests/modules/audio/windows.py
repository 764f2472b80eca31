"""Windows of a recording, cut one by one as a reference for the graph."""

import tensorflow as tf

from modules.audio.spec import AudioSpec
from modules.audio.windowing import fill_window, start_seconds, timeline_starts, window_start


def cut(waveform: tf.Tensor, start: int, spec: AudioSpec) -> tuple[tf.Tensor, tf.Tensor]:
    return fill_window(waveform[start : start + spec.window_samples], spec)


def window(waveform: tf.Tensor, spec: AudioSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the analysed window and its number of valid samples."""
    return cut(waveform, int(window_start(tf.size(waveform), spec)), spec)


def timeline_windows(waveform: tf.Tensor, spec: AudioSpec, hop_sec: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return all windows, their numbers of valid samples, and their starts in seconds."""
    starts = timeline_starts(tf.size(waveform), spec, hop_sec)
    windows, valid_samples = zip(*(cut(waveform, int(start), spec) for start in starts), strict=True)
    return tf.stack(windows), tf.stack(valid_samples), start_seconds(starts, spec)
