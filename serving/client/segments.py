"""Windows that belong together: the answer to a whole recording, and segments of one emotion."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from modules.export.contract import LEAST_WEIGHT, NO_SPEECH, NOT_SURE
from serving.client.predictions import Prediction, Segment


def whole(windows: Sequence[Prediction]) -> Prediction:
    """Return the answer for all windows together, as the model answers for a whole recording.

    Probabilities are means, weighted by the probability that the window holds speech
    (:func:`modules.export.signatures.served_module`).

    Args:
        windows: At least one window.
    """
    speeches = [window.speech for window in windows if window.speech is not None]
    weights = np.maximum(speeches, LEAST_WEIGHT) if len(speeches) == len(windows) else np.ones(len(windows))
    labels = list(windows[0].probabilities)
    mean = np.average([list(window.probabilities.values()) for window in windows], axis=0, weights=weights)
    min_confidence = max(window.min_confidence for window in windows)  # a silent window of live audio has none
    emotion = labels[int(mean.argmax())] if mean.max() >= min_confidence else NOT_SURE
    has_speech = any(window.emotion != NO_SPEECH for window in windows)
    return Prediction(
        emotion=emotion if has_speech else NO_SPEECH,
        probabilities=dict(zip(labels, map(float, mean), strict=True)),
        confidence=float(mean.max()),
        min_confidence=min_confidence,
        speech=max(speeches, default=None),
        model_version=windows[-1].model_version,
    )


class Merger:
    """Segments out of consecutive windows: neighbours with the same emotion are one.

    Windows overlap, so that a segment ends half-way between the centres of the last window of its emotion and the
    first of the next, or with its last window where the recording is silent in between.
    """

    def __init__(self) -> None:
        self._windows: list[Segment] = []
        self._start_sec = 0.0

    def add(self, window: Segment) -> list[Segment]:
        """Return the segment that the window ends, if it does.

        Args:
            window: The next window of the recording.
        """
        if not self._windows:
            self._begin(window, window.start_sec)
            return []
        last = self._windows[-1]
        is_next = window.start_sec <= last.end_sec
        if is_next and window.emotion == last.emotion:
            self._windows.append(window)
            return []
        boundary_sec = (last.start_sec + last.end_sec + window.start_sec + window.end_sec) / 4
        ended = self._ended(boundary_sec if is_next else last.end_sec)
        self._begin(window, boundary_sec if is_next else window.start_sec)
        return [ended]

    def end(self) -> list[Segment]:
        """Return the last segment; none of a recording without windows."""
        return [self._ended(self._windows[-1].end_sec)] if self._windows else []

    def _begin(self, window: Segment, start_sec: float) -> None:
        self._windows, self._start_sec = [window], start_sec

    def _ended(self, end_sec: float) -> Segment:
        return Segment(**vars(whole(self._windows)), start_sec=self._start_sec, end_sec=end_sec)


def segments_of(windows: Iterable[Segment]) -> Iterator[Segment]:
    """Yield the segments of a recording, each as soon as it is final.

    Args:
        windows: Consecutive windows.
    """
    merger = Merger()
    for window in windows:
        yield from merger.add(window)
    yield from merger.end()
