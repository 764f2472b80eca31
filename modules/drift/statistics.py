"""Statistics of the difference between two samples, computed for many permutations at once."""

import numpy as np
import scipy.stats
from scipy.spatial import distance

from modules.drift.sample import Sample

KS = "ks"
LABELS = "labels"

Statistics = dict[str, np.ndarray]
"""By name, ``[permutations, n]``: ``ks`` of each feature, ``labels`` once, and per emotion the rank shift of each
feature."""

_CHUNK = 64


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence over the last axis (Lin 1991, IEEE Trans. Inf. Theory 37(1)).

    Args:
        first: Counts or probabilities, ``[..., classes]``.
        second: The same of the other sample.

    Returns:
        float64 ``[...]``, base 2, 0 to 1.
    """
    # SciPy takes a square root of what rounding may leave just below zero, and returns NaN then.
    return np.nan_to_num(np.asarray(distance.jensenshannon(first, second, base=2, axis=-1))) ** 2


class Pool:
    """The clips of both samples. A sample of them is a row of weights; several samples are one matrix."""

    def __init__(self, reference: Sample, current: Sample) -> None:
        self._values = np.concatenate([reference.values, current.values])
        self._emotions: dict[str, np.ndarray] = {}
        if reference.emotions is not None and current.emotions is not None:
            named = np.array(reference.emotions + current.emotions)
            self._emotions = {
                emotion: np.flatnonzero(named == emotion)
                for emotion in sorted({*reference.emotions, *current.emotions})
            }

    def measure(self, first: np.ndarray, second: np.ndarray) -> Statistics:
        """Compare pairs of samples.

        Args:
            first: Weight of each clip in the first sample of each pair, float32 ``[permutations, clips]``.
            second: The same for the second sample.
        """
        statistics = {KS: self._ks(first, second)}
        if self._emotions:
            labels = jensen_shannon(self._label_counts(first), self._label_counts(second))
            statistics |= {LABELS: labels[:, np.newaxis], **self._rank_shifts(first, second)}
        return statistics

    def _ks(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the largest distance of the distribution functions, as :func:`scipy.stats.ks_2samp` does."""
        difference = (first / first.sum(axis=1, keepdims=True) - second / second.sum(axis=1, keepdims=True)).T
        result = np.empty((len(first), self._values.shape[1]))
        for feature, rows in enumerate(np.argsort(self._values, axis=0).T):
            in_order = self._values[rows, feature]
            inside_step = np.flatnonzero(in_order[1:] == in_order[:-1])  # the step at equal values is not complete
            for start in range(0, len(first), _CHUNK):
                distances = np.cumsum(difference[rows, start : start + _CHUNK], axis=0)
                distances[inside_step] = 0
                largest = np.maximum(distances.max(axis=0), -distances.min(axis=0))
                result[start : start + _CHUNK, feature] = largest
        return result

    def _label_counts(self, weights: np.ndarray) -> np.ndarray:
        return np.stack([weights[:, rows].sum(axis=1) for rows in self._emotions.values()], axis=-1)

    def _rank_shifts(self, first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
        shifts, ranks = {}, scipy.stats.rankdata(self._values, axis=0).astype(np.float32) / len(self._values)
        for emotion, rows in self._emotions.items():
            counts = [weights[:, rows].sum(axis=1, keepdims=True) for weights in (first, second)]
            means = [
                weights[:, rows] @ ranks[rows] / np.maximum(count, 1)
                for weights, count in zip((first, second), counts, strict=True)
            ]
            shifts[emotion] = np.where(np.minimum(*counts) > 0, np.abs(means[0] - means[1]), 0.0)
        return shifts
