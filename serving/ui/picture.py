"""Picture of a recording: waveform, spectrogram and emotions on one time axis."""

import io
import zlib
from collections.abc import Sequence

import librosa
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from modules.audio.decoding import Recording
from modules.export.contract import NO_SPEECH, NOT_SURE
from serving.client import Segment

_COLOURS = {
    "angry": "#d55e00",
    "disgust": "#7a8b00",
    "fear": "#8e5fb5",
    "happy": "#e6a400",
    "neutral": "#7f8c8d",
    "calm": "#4aa3a2",
    "sad": "#2f6db5",
    "surprise": "#d6479c",
    NOT_SURE: "#97a1aa",
    NO_SPEECH: "#b8bec4",
}
_OTHER_COLOURS = ("#3b8f57", "#a0522d", "#5668d0", "#c06c84", "#008c9e")
_COLUMNS = 1_500
_MEL_BANDS = 64
INK = {"light": "#17212c", "dark": "#e4e9ee"}
"""Colour of text and lines, by theme."""

_LABEL_IN = 0.6  # inches for the name of a segment's emotion


def colour_of(emotion: str) -> str:
    """Return the colour of an emotion, the same wherever it is shown.

    Args:
        emotion: Name of the emotion, ``not_sure``, or ``no_speech``.
    """
    return _COLOURS.get(emotion) or _OTHER_COLOURS[zlib.crc32(emotion.encode()) % len(_OTHER_COLOURS)]


def picture(recording: Recording, segments: Sequence[Segment], *, theme: str, width_in: float) -> bytes:
    """Return a PNG picture with a transparent background.

    Args:
        recording: The recording.
        segments: Parts of the recording with one emotion.
        theme: ``light`` or ``dark``.
        width_in: Width in inches; text has the same size at each.
    """
    ink = INK[theme]
    with plt.rc_context(
        {"text.color": ink, "axes.labelcolor": ink, "xtick.color": ink, "ytick.color": ink, "axes.edgecolor": ink}
    ):
        figure = _draw(recording, segments, width_in)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, transparent=True)
    plt.close(figure)
    return file.getvalue()


def envelope(samples: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lowest and the highest sample of each column, and its first sample, each ``[columns]`` or fewer.

    Args:
        samples: float32 ``[samples]``, full scale is ±1.
        columns: Largest number of columns.
    """
    starts = np.unique(np.linspace(0, len(samples), columns, endpoint=False).astype(int))
    return np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts), starts


def _draw(recording: Recording, segments: Sequence[Segment], width_in: float) -> Figure:
    heights = [3, 1, 4] if segments else [3, 4]
    figure, rows = plt.subplots(
        len(heights), 1, sharex=True, figsize=(width_in, 5), layout="constrained", height_ratios=heights
    )
    _draw_waveform(rows[0], recording)
    if segments:
        _draw_segments(rows[1], segments, _LABEL_IN / width_in * recording.duration_sec)
    _draw_spectrogram(rows[-1], recording)
    rows[-1].set_xlim(0, recording.duration_sec)
    rows[-1].set_xlabel("time (s)")
    return figure


def _draw_waveform(axes: Axes, recording: Recording) -> None:
    lowest, highest, starts = envelope(recording.samples, _COLUMNS)
    axes.fill_between(starts / recording.sample_rate_hz, lowest, highest, linewidth=0.5, color="#4a7fb5")
    axes.set_ylabel("amplitude")


def _draw_segments(axes: Axes, segments: Sequence[Segment], label_sec: float) -> None:
    for segment in segments:
        axes.axvspan(segment.start_sec, segment.end_sec, color=colour_of(segment.emotion), linewidth=0)
        if segment.end_sec - segment.start_sec > label_sec:
            middle_sec = (segment.start_sec + segment.end_sec) / 2
            ink = _ink_on(colour_of(segment.emotion))
            name = segment.emotion.replace("_", " ")
            axes.text(middle_sec, 0.5, name, ha="center", va="center", fontsize=9, color=ink)
    axes.set_yticks([])
    axes.set_ylabel("emotion", rotation=0, ha="right", va="center")


def _ink_on(colour: str) -> str:
    """Return black or white, whichever has more contrast (WCAG 2.2, relative luminance)."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(colour)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def _draw_spectrogram(axes: Axes, recording: Recording) -> None:
    rate_hz = recording.sample_rate_hz
    hop_samples = max(512, len(recording.samples) // _COLUMNS)
    power = librosa.feature.melspectrogram(
        y=recording.samples, sr=rate_hz, n_mels=_MEL_BANDS, hop_length=hop_samples, fmax=min(8_000, rate_hz / 2)
    )
    centres_hz = librosa.mel_frequencies(n_mels=_MEL_BANDS, fmax=min(8_000, rate_hz / 2))
    starts_sec = np.arange(power.shape[1]) * hop_samples / rate_hz
    level_db = librosa.power_to_db(power, ref=np.max)
    axes.pcolormesh(starts_sec, centres_hz, level_db, cmap="magma", shading="nearest", rasterized=True)
    axes.set_yscale("symlog", linthresh=1_000)
    ticks_hz = [tick for tick in (250, 500, 1_000, 2_000, 4_000, 8_000) if tick <= rate_hz / 2]
    axes.set_yticks(ticks_hz, [str(tick) for tick in ticks_hz])
    axes.set_ylabel("frequency (Hz)")
