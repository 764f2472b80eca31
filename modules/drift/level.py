"""Test of the difference in level between two samples."""

import dataclasses

import numpy as np

from modules.drift.report import Compared, LevelDrift
from modules.drift.sample import Sample

MIN_LEVEL_ERROR_DB = 0.1
"""Least standard error of a difference in level, dB; that of a single speaker, or of equal levels, would be 0."""


@dataclasses.dataclass(frozen=True)
class Levels:
    """Levels of the speakers of both samples.

    Attributes:
        spoken: 1 where a clip is by a speaker; float32 ``[clips, speakers]``.
        levels_db: Level of each clip, the reference's first, float32 ``[clips]``, dB.
    """

    spoken: np.ndarray
    levels_db: np.ndarray

    @classmethod
    def of(cls, reference: Sample, current: Sample, speakers: np.ndarray) -> "Levels | None":
        """Return the levels, or None where levels or speakers are unknown.

        The means of pseudo-speakers vary too little for an estimate of the standard error.

        Args:
            reference: The reference.
            current: The sample that is compared with it.
            speakers: Speaker of each clip of both, ``[clips]``.
        """
        if any(one.levels_db is None or one.speakers is None for one in (reference, current)):
            return None
        _, number_of = np.unique(speakers, return_inverse=True)
        spoken = np.eye(number_of.max() + 1, dtype=np.float32)[number_of]
        return cls(spoken, np.concatenate([reference.levels_db, current.levels_db]).astype(np.float32))

    def test(self, seen: np.ndarray, permuted: np.ndarray, false_alarm_rate: float) -> tuple[LevelDrift, float]:
        """Compare the mean levels of the speakers by Welch's statistic.

        Args:
            seen: The samples as weights of all clips, float32 ``[2, 1, clips]``.
            permuted: Permutations of them, float32 ``[2, permutations, clips]``.
            false_alarm_rate: Share of permutations that exceed the threshold.

        Returns:
            The difference with its threshold, and the p-value.
        """
        means_db, errors_db = (
            np.concatenate(both, axis=-1) for both in zip(self._measure(*seen), self._measure(*permuted), strict=True)
        )
        ratios = np.abs(means_db[1] - means_db[0]) / errors_db
        limit = np.quantile(ratios, 1 - false_alarm_rate, method="higher")
        difference = Compared(value=float(ratios[0] * errors_db[0]), threshold=float(limit * errors_db[0]))
        level = LevelDrift(
            reference_db=float(means_db[0, 0]), current_db=float(means_db[1, 0]), difference_db=difference
        )
        return level, float(np.mean(ratios >= ratios[0]))

    def _measure(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean levels of both samples, ``[2, permutations]``, and their difference's standard error."""
        means, variances = zip(*(self._over_speakers(weights) for weights in (first, second)), strict=True)
        return np.stack(means), np.maximum(np.sqrt(variances[0] + variances[1]), MIN_LEVEL_ERROR_DB)

    def _over_speakers(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of the speakers' mean levels and its variance, both ``[permutations]``."""
        clips = weights @ self.spoken
        present = clips > 0
        levels_db = (weights * self.levels_db) @ self.spoken / np.maximum(clips, 1)
        speakers = present.sum(axis=1)
        mean_db = np.where(present, levels_db, 0).sum(axis=1) / speakers
        squares = np.where(present, (levels_db - mean_db[:, np.newaxis]) ** 2, 0).sum(axis=1)
        return mean_db, squares / np.maximum(speakers - 1, 1) / speakers
