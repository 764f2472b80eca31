"""Windows that belong together: the answer to a whole recording, and segments of one emotion."""

from collections.abc import Iterable, Iterator

from modules.export.contract import LEAST_WEIGHT, NO_SPEECH, NOT_SURE
from serving.client.predictions import Prediction, Segment


def whole(windows: Iterable[Prediction]) -> Prediction:
    """Return the answer for all windows together, as the model answers for a whole recording.

    Probabilities are means, weighted by the probability that the window holds speech
    (:func:`modules.export.signatures.served_module`).

    Args:
        windows: At least one window.
    """
    total = _Total()
    for window in windows:
        total.add(window)
    return total.answer()


class _Total:
    """Sums over windows, so that memory does not grow with their number."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weight = 0.0
        self._has_speech = False
        self._speech: float | None = None

    def add(self, window: Prediction) -> None:
        weight = 1.0 if window.speech is None else max(window.speech, LEAST_WEIGHT)
        self._weight += weight
        for label, probability in window.probabilities.items():
            self._sums[label] = self._sums.get(label, 0.0) + weight * probability
        self._has_speech |= window.emotion != NO_SPEECH
        if window.speech is not None:
            self._speech = max(window.speech, self._speech or 0.0)
        self._last = window

    def answer(self) -> Prediction:
        probabilities = {label: total / self._weight for label, total in self._sums.items()}
        likeliest = max(probabilities, key=probabilities.__getitem__)
        emotion = likeliest if probabilities[likeliest] >= self._last.min_confidence else NOT_SURE
        return Prediction(
            emotion=emotion if self._has_speech else NO_SPEECH,
            probabilities=probabilities,
            confidence=probabilities[likeliest],
            min_confidence=self._last.min_confidence,
            speech=self._speech,
            model_version=self._last.model_version,
        )


class Merger:
    """Segments out of consecutive windows: neighbours with the same emotion are one.

    Windows overlap, so that a segment ends half-way between the centres of the last window of its emotion and the
    first of the next.
    """

    def __init__(self) -> None:
        self._last: Segment | None = None
        self._total = _Total()
        self._start_sec = 0.0

    def add(self, window: Segment) -> list[Segment]:
        """Return the segment that the window ends, if it does.

        Args:
            window: The next window of the recording.
        """
        ended = []
        if self._last is None:
            self._start_sec = window.start_sec
        elif window.emotion != self._last.emotion:
            boundary_sec = (self._last.start_sec + self._last.end_sec + window.start_sec + window.end_sec) / 4
            ended = [self._ended(boundary_sec)]
            self._total, self._start_sec = _Total(), boundary_sec
        self._total.add(window)
        self._last = window
        return ended

    def end(self) -> list[Segment]:
        """Return the last segment; none of a recording without windows."""
        return [self._ended(self._last.end_sec)] if self._last else []

    def _ended(self, end_sec: float) -> Segment:
        return Segment(**vars(self._total.answer()), start_sec=self._start_sec, end_sec=end_sec)


def segments_of(windows: Iterable[Segment]) -> Iterator[Segment]:
    """Yield the segments of a recording, each as soon as it is final.

    Args:
        windows: Consecutive windows.
    """
    merger = Merger()
    for window in windows:
        yield from merger.add(window)
    yield from merger.end()
