"""Statistics of the features by speaker, which give the constants of the normalisation for any set of speakers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from modules.audio.spec import AudioSpec
from modules.common.files import write_atomically
from modules.data.preprocessing import Constants, Normalisation, minmax_constants, zscore_constants


class Statistics:
    """Count, sum, sum of squares, minimum and maximum of each feature over the valid frames of each speaker."""

    def __init__(self, spec: AudioSpec, by_speaker: dict[str, np.ndarray] | None = None) -> None:
        """Store the statistics.

        Args:
            spec: Audio spec of the features.
            by_speaker: The five statistics by id of the speaker, each float64 ``[5, features]``.
        """
        self._spec, self._by_speaker = spec, by_speaker or {}

    @classmethod
    def load(cls, path: Path, spec: AudioSpec) -> Self:
        """Read statistics that :meth:`save` wrote.

        Args:
            path: The file.
            spec: Audio spec of the features.
        """
        with np.load(path) as archive:
            return cls(spec, dict(archive))

    def save(self, path: Path) -> None:
        """Write the statistics to an ``.npz`` file."""
        with write_atomically(path) as temporary:
            np.savez(temporary, allow_pickle=False, **self._by_speaker)

    def add(self, features: np.ndarray, valid_frames: np.ndarray, speakers: np.ndarray) -> None:
        """Add some examples.

        Args:
            features: float32 ``[examples, *feature_shape]``.
            valid_frames: int64 ``[examples]``.
            speakers: Id of each example's speaker, ``[examples]``.
        """
        for speaker in np.unique(speakers):
            chosen = speakers == speaker
            values = features[chosen]
            if self._spec.has_frames:
                values = values[np.arange(self._spec.window_frames) < valid_frames[chosen, np.newaxis]]
            if len(values):
                self._by_speaker[speaker] = _joined([*self._of([speaker]), _statistics(values.astype(np.float64))])

    def constants(self, speakers: Iterable[str], normalisation: Normalisation) -> Constants:
        """Return the constants of the normalisation over all examples of some speakers.

        Args:
            speakers: Ids of the speakers.
            normalisation: Kind of the normalisation.

        Raises:
            ValueError: None of the speakers has an example.
        """
        speakers = tuple(speakers)
        parts = self._of(speakers)
        if not parts:
            raise ValueError(f"the speakers {', '.join(speakers)} have no example; ingest recordings of them first")
        count, total, squares, lowest, highest = _joined(parts)
        if normalisation == "minmax":
            return minmax_constants(lowest, highest)
        mean = total / count
        return zscore_constants(mean, np.maximum(squares / count - mean**2, 0))

    def _of(self, speakers: Iterable[str]) -> list[np.ndarray]:
        return [self._by_speaker[speaker] for speaker in speakers if speaker in self._by_speaker]


def _statistics(values: np.ndarray) -> np.ndarray:
    count = np.full(values.shape[1], len(values), np.float64)
    return np.stack([count, values.sum(0), np.square(values).sum(0), values.min(0), values.max(0)])


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    stacked = np.stack(parts)
    return np.concatenate([stacked[:, :3].sum(0), stacked[:, 3:4].min(0), stacked[:, 4:].max(0)])
