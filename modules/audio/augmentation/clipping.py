"""Recordings that are too loud: clipped samples."""

import dataclasses

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings

_GAINS_DB = (-6.0, 6.0)
_SHARES = (0.2, 0.9)


@dataclasses.dataclass(frozen=True)
class Clipping:
    """Gain and clipping.

    Attributes:
        gain_db: Gain in dB.
        share: Share of the peak at which samples are clipped; at most at full scale.
    """

    gain_db: float
    share: float

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Clipping":
        """Draw gain and share from ``rng``; ``settings`` are not used."""
        return cls(rng.uniform(*_GAINS_DB), rng.uniform(*_SHARES))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Amplify and clip the samples; the result has their length."""
        louder = samples * np.float32(10 ** (self.gain_db / 20))
        limit = min(1.0, self.share * float(np.abs(louder).max()))
        return np.clip(louder, -limit, limit)
