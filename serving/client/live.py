"""Windows of a recording that is still going on, such as a call."""

import dataclasses

import numpy as np

from serving.client.errors import UnexpectedAnswer
from serving.client.predictions import Segment, errors, windows_of
from serving.client.recordings import from_samples
from serving.wire import predict_pb2 as wire

_PROBE_SEC = 30.0
_PROBE_RATE_HZ = 8_000
_NAME = "live audio"


@dataclasses.dataclass(frozen=True)
class Grid:
    """Windows of a model's timeline.

    Attributes:
        window_sec: Length of a window in seconds.
        hop_sec: Distance between the starts of two windows in seconds.
    """

    window_sec: float
    hop_sec: float


def probe() -> bytes:
    """Return noise whose timeline shows the grid of a model: the client does not have the model's contract."""
    samples = np.random.default_rng(0).normal(0, 0.01, round(_PROBE_SEC * _PROBE_RATE_HZ)).astype(np.float32)
    return from_samples(samples, _PROBE_RATE_HZ)


def grid_of(response: wire.PredictResponse) -> Grid:
    """Return the grid.

    Args:
        response: Response of the ``timeline`` signature to :func:`probe`.

    Raises:
        UnexpectedAnswer: The windows of the model are too long for live audio.
    """
    windows = windows_of(response, offset_sec=0.0)
    if len(windows) < 3:
        raise UnexpectedAnswer(
            f"the model has {len(windows)} windows in {_PROBE_SEC:g} s of sound; live audio needs 3. Send recordings"
        )
    first, second = windows[:2]
    return Grid(first.end_sec - first.start_sec, second.start_sec - first.start_sec)


class LiveTimeline:
    """Cuts arriving samples into the windows of the timeline of a file with the same samples.

    It holds no more samples than a window and what has arrived since.
    """

    def __init__(self, grid: Grid, sample_rate_hz: int) -> None:
        """Begin at second 0.

        Args:
            grid: The model's windows.
            sample_rate_hz: Rate of the samples in hertz.
        """
        self._grid = grid
        self._rate_hz = sample_rate_hz
        self._window_frames = round(grid.window_sec * sample_rate_hz)
        self._held: list[np.ndarray] = []
        self._held_from = 0
        self._end = 0
        self._windows = 0
        self._last_end = 0

    def add(self, samples: np.ndarray) -> None:
        """Add the samples that follow.

        Args:
            samples: Of shape ``[samples]`` or ``[samples, channels]``, floating point in ±1 or int16.
        """
        self._held.append(np.asarray(samples))
        self._end += len(samples)

    def next_window(self, *, ended: bool = False) -> tuple[int, bytes] | None:
        """Return first sample and WAV file of the next window, or ``None`` while it is not complete.

        Args:
            ended: Whether no more samples follow: the last window then ends with them.

        Raises:
            AudioError: The samples are of no usable kind.
        """
        start = round(self._windows * self._grid.hop_sec * self._rate_hz)
        if start + self._window_frames > self._end:
            if not ended or self._last_end == self._end or not self._end:
                return None
            start = max(self._end - self._window_frames, 0)
        self._windows += 1
        self._last_end = min(start + self._window_frames, self._end)
        return start, from_samples(self._cut(start, self._last_end), self._rate_hz)

    def accept(self, start: int, response: wire.PredictResponse) -> Segment:
        """Return the window's emotion.

        Args:
            start: First sample of the window.
            response: Response of the ``timeline`` signature to it.

        Raises:
            AudioError: The model cannot use the window.
        """
        (error,) = errors(response, [_NAME])
        if error:
            raise error
        return windows_of(response, offset_sec=start / self._rate_hz)[0]

    def _cut(self, start: int, end: int) -> np.ndarray:
        """Return samples, and forget those before ``start``: later windows begin behind it."""
        held = np.concatenate(self._held)[start - self._held_from :]
        self._held, self._held_from = [held], start
        return held[: end - start]
