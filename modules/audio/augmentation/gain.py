"""Another level, as of another distance or another amplifier."""

import dataclasses

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings

_GAINS_DB = (-10.0, 25.0)  # corpora such as RAVDESS are soft: normalised peaks are about 20 dB louder


@dataclasses.dataclass(frozen=True)
class Gain:
    """Gain, with clipping at full scale.

    Attributes:
        gain_db: Gain in dB.
    """

    gain_db: float

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Gain":
        """Draw the gain from ``rng``; ``settings`` are not used."""
        return cls(rng.uniform(*_GAINS_DB))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Amplify the samples; the result has their length."""
        return np.clip(samples * np.float32(10 ** (self.gain_db / 20)), -1, 1)
