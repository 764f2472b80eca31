"""Test of the difference in level between two samples."""

import dataclasses

import numpy as np

from modules.drift.report import Compared, LevelDrift
from modules.drift.sample import Sample

MIN_LEVEL_ERROR = 0.1
"""Least standard error of a difference in level, in its unit; that of a single speaker or of equal levels would be 0.

The channels of an encoder differ by less, so that their differences are compared as they are.
"""


@dataclasses.dataclass(frozen=True)
class Levels:
    """Levels of the speakers of both samples.

    Attributes:
        spoken: 1 where a clip is by a speaker; float32 ``[clips, speakers]``.
        levels: Level of each clip, the reference's first, float32 ``[clips]``.
        unit: Unit of the levels; empty without one.
    """

    spoken: np.ndarray
    levels: np.ndarray
    unit: str

    @classmethod
    def of(cls, reference: Sample, current: Sample, speakers: np.ndarray) -> "Levels | None":
        """Return the levels, or None where levels or speakers are unknown.

        The means of pseudo-speakers vary too little for an estimate of the standard error.

        Args:
            reference: The reference.
            current: The sample that is compared with it.
            speakers: Speaker of each clip of both, ``[clips]``.
        """
        if any(one.levels is None or one.speakers is None for one in (reference, current)):
            return None
        _, number_of = np.unique(speakers, return_inverse=True)
        spoken = np.eye(number_of.max() + 1, dtype=np.float32)[number_of]
        levels = np.concatenate([reference.levels, current.levels]).astype(np.float32)
        return cls(spoken, levels, reference.level_unit)

    def test(self, seen: np.ndarray, permuted: np.ndarray, false_alarm_rate: float) -> tuple[LevelDrift, float]:
        """Compare the mean levels of the speakers by Welch's statistic.

        Args:
            seen: The samples as weights of all clips, float32 ``[2, 1, clips]``.
            permuted: Permutations of them, float32 ``[2, permutations, clips]``.
            false_alarm_rate: Share of permutations that exceed the threshold.

        Returns:
            The difference with its threshold, and the p-value.
        """
        means, errors = (
            np.concatenate(both, axis=-1) for both in zip(self._measure(*seen), self._measure(*permuted), strict=True)
        )
        ratios = np.abs(means[1] - means[0]) / errors
        limit = np.quantile(ratios, 1 - false_alarm_rate, method="higher")
        difference = Compared(value=float(ratios[0] * errors[0]), threshold=float(limit * errors[0]))
        level = LevelDrift(
            reference=float(means[0, 0]), current=float(means[1, 0]), difference=difference, unit=self.unit
        )
        return level, float(np.mean(ratios >= ratios[0]))

    def _measure(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean levels of both samples, ``[2, permutations]``, and their difference's standard error."""
        means, variances = zip(*(self._over_speakers(weights) for weights in (first, second)), strict=True)
        return np.stack(means), np.maximum(np.sqrt(variances[0] + variances[1]), MIN_LEVEL_ERROR)

    def _over_speakers(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of the speakers' mean levels and its variance, both ``[permutations]``."""
        clips = weights @ self.spoken
        present = clips > 0
        levels = (weights * self.levels) @ self.spoken / np.maximum(clips, 1)
        speakers = present.sum(axis=1)
        mean = np.where(present, levels, 0).sum(axis=1) / speakers
        squares = np.where(present, (levels - mean[:, np.newaxis]) ** 2, 0).sum(axis=1)
        return mean, squares / np.maximum(speakers - 1, 1) / speakers
