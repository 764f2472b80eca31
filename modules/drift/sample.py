"""Samples of clips whose features are compared."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Clips to compare.

    Attributes:
        values: Features, float ``[clips, features]``.
        names: Names of the features.
        speakers: Speaker of each clip; None if unknown.
        emotions: Emotion of each clip; None if unknown.
        levels: Level of each clip, float ``[clips]``; None if unknown.
        level_unit: Unit of the levels; empty without one.
    """

    values: np.ndarray
    names: tuple[str, ...]
    speakers: tuple[str, ...] | None = None
    emotions: tuple[str, ...] | None = None
    levels: np.ndarray | None = None
    level_unit: str = "dB"

    @property
    def clips(self) -> int:
        """Number of clips."""
        return len(self.values)

    @property
    def speaker_count(self) -> int | None:
        """Number of speakers; None if they are unknown."""
        return None if self.speakers is None else len(set(self.speakers))

    def take(self, rows: np.ndarray | Sequence[int]) -> "Sample":
        """Return some of the clips, in the order of ``rows``.

        Args:
            rows: Indices of clips, int ``[chosen]``.
        """
        return dataclasses.replace(
            self,
            values=self.values[rows],
            speakers=tuple(self.speakers[row] for row in rows) if self.speakers else None,
            emotions=tuple(self.emotions[row] for row in rows) if self.emotions else None,
            levels=None if self.levels is None else self.levels[rows],
        )


def band_means(spectrograms: np.ndarray, valid_frames: np.ndarray) -> np.ndarray:
    """Return the mean of each band over the valid frames.

    Args:
        spectrograms: Float ``[clips, frames, bands]``, dB.
        valid_frames: Frames that each clip fills, int ``[clips]``.

    Returns:
        float64 ``[clips, bands]``, dB.
    """
    inside = np.arange(spectrograms.shape[1]) < np.asarray(valid_frames)[:, np.newaxis]
    return np.asarray(np.mean(spectrograms, axis=1, where=inside[:, :, np.newaxis], dtype=np.float64))
