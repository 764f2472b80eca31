"""White noise of one level, however loud the clip is."""

import dataclasses

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings


@dataclasses.dataclass(frozen=True)
class Noise:
    """White Gaussian noise.

    Attributes:
        std: Standard deviation, where full scale is 1.
        seed: Seed of the noise itself.
    """

    std: float
    seed: int

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Noise":
        """Take the standard deviation from ``settings`` and draw the seed of the noise from ``rng``."""
        return cls(settings.noise_std, int(rng.integers(2**63)))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Add the noise; the result has the length of ``samples``."""
        noise = np.random.default_rng(self.seed).standard_normal(len(samples), dtype=np.float32)
        return samples + np.float32(self.std) * noise
