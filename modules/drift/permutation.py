"""Permutation of speakers between two samples, and the thresholds that follow from it."""

import math

import numpy as np

from modules.drift.report import Compared
from modules.drift.sample import Sample
from modules.drift.statistics import KS, LABELS, Statistics

MIN_NULL_DEVIATION = 0.01
"""Least standard deviation of a statistic without drift; a constant statistic would alarm at a single clip."""

MIN_PSEUDO_SPEAKERS = 8
"""Least number of pseudo-speakers of a sample without speakers, if the other sample has twice as many speakers."""


def named_speakers(reference: Sample, current: Sample) -> np.ndarray:
    """Return the speaker of each clip of the reference, then of the current sample; pseudo-speakers where unknown.

    Returns:
        Texts ``[clips]``.
    """
    return np.concatenate(
        [
            np.array(one.speakers) if one.speakers is not None else _pseudo_speakers(one.clips, other, name)
            for name, one, other in (("reference", reference, current), ("current", current, reference))
        ]
    )


def _pseudo_speakers(clips: int, other: Sample, name: str) -> np.ndarray:
    """Assign consecutive clips to one speaker: about as many clips as a speaker of ``other`` has.

    Pseudo-speakers mix the clips of many people and hardly differ; permuted among speakers they would make chance look
    small. Half as many of them compensate for that, since the mean of fewer varies more.
    """
    speakers = other.speaker_count or math.isqrt(other.clips)
    count = min(clips, max(2, round(speakers / 2)), max(MIN_PSEUDO_SPEAKERS, round(clips * speakers / other.clips)))
    return np.array([f"{name} {number * count // clips}" for number in range(clips)])


def membership(reference: Sample, current: Sample) -> np.ndarray:
    """Return the two samples as weights of all clips, float32 ``[2, 1, clips]``."""
    return np.repeat(np.eye(2, dtype=np.float32), (reference.clips, current.clips), axis=1)[:, np.newaxis]


def permute(speakers: np.ndarray, reference_clips: int, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Permute the speakers.

    A speaker takes the place of another: gives as many clips to the reference and to the current sample, chosen at
    random; in proportion where there are not as many.

    Args:
        speakers: Speaker of each clip, ``[clips]``, those of the reference first.
        reference_clips: Number of clips of the reference.
        permutations: Number of permutations.
        rng: Source of randomness.

    Returns:
        1 where a clip is in the reference, and in the current sample, of each permutation; float32
        ``[2, permutations, clips]``.
    """
    _, number_of, sizes = np.unique(speakers, return_inverse=True, return_counts=True)
    to_reference = np.bincount(number_of[:reference_clips], minlength=len(sizes))
    position = np.arange(len(speakers)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    permuted = np.zeros((2, permutations, len(speakers)), np.float32)
    for permutation in range(permutations):
        place = rng.permutation(len(sizes))
        given = np.minimum(sizes, sizes[place])
        kept = np.rint(given * (to_reference[place] / sizes[place]))
        mixed = np.argsort(number_of + rng.random(len(speakers)))  # speaker by speaker
        in_reference = position < np.repeat(kept, sizes)
        permuted[0, permutation, mixed[in_reference]] = 1
        permuted[1, permutation, mixed[~in_reference & (position < np.repeat(given, sizes))]] = 1
    return permuted


class Thresholds:
    """Thresholds that hold for all statistics together: the single-step maxT of Westfall & Young 1993.

    Args:
        seen: Statistics of the samples, of one permutation.
        permuted: Statistics of the permutations.
        false_alarm_rate: Share of permutations that exceed a threshold.
    """

    def __init__(self, seen: Statistics, permuted: Statistics, false_alarm_rate: float) -> None:
        # The samples as they are count as one permutation. Otherwise mean and deviation would include every
        # permutation but not the samples, and the permutations would look less extreme.
        null = {name: np.concatenate([seen[name], values]) for name, values in permuted.items()}
        self._seen, self._centre, self._spread = seen, {}, {}
        for name, values in null.items():
            self._centre[name] = _unskewed(name, values).mean(axis=0)
            self._spread[name] = np.maximum(_unskewed(name, values).std(axis=0), MIN_NULL_DEVIATION)
        self._largest_by_chance = self._largest(null)
        self._mean_by_chance = null[KS].mean(axis=1)
        self._level = 1 - false_alarm_rate
        self._limit = np.quantile(self._largest_by_chance, self._level, method="higher")

    @property
    def p_value(self) -> float:
        """Smaller p-value of the largest statistic and of the mean KS, not corrected for the number of tests."""
        in_largest = np.mean(self._largest_by_chance >= self._largest_by_chance[0])
        in_mean = np.mean(self._mean_by_chance >= self._mean_by_chance[0])
        return float(min(in_largest, in_mean))

    @property
    def mean_ks(self) -> Compared:
        """Mean of the Kolmogorov-Smirnov statistics of all features."""
        threshold = np.quantile(self._mean_by_chance, self._level, method="higher")
        return Compared(value=float(self._mean_by_chance[0]), threshold=float(threshold))

    def compared(self, name: str, number: int = 0) -> Compared:
        """Return a statistic of the samples and its threshold.

        Args:
            name: Name of the statistic.
            number: Index of the feature.
        """
        threshold = max(0.0, self._centre[name][number] + self._limit * self._spread[name][number])
        return Compared(
            value=float(self._seen[name][0, number]), threshold=float(threshold**2 if name == LABELS else threshold)
        )

    def standardised(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return statistics in standard deviations from their mean without drift, ``[permutations, n]``."""
        return (_unskewed(name, values) - self._centre[name]) / self._spread[name]

    def _largest(self, statistics: Statistics) -> np.ndarray:
        return np.max([self.standardised(name, values).max(axis=1) for name, values in statistics.items()], axis=0)


def _unskewed(name: str, values: np.ndarray) -> np.ndarray:
    """Return the root of a divergence, whose distribution is less skewed; other statistics as they are."""
    return np.sqrt(np.maximum(values, 0)) if name == LABELS else values
