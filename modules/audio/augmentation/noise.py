"""White noise, as loud as a share of the clip's peak."""

import dataclasses

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings


@dataclasses.dataclass(frozen=True)
class Noise:
    """White Gaussian noise.

    Attributes:
        amplitude: Standard deviation, as a share of the clip's peak.
        seed: Of the noise itself.
    """

    amplitude: float
    seed: int

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Noise":
        """Draw the amplitude, at most ``settings.noise_amplitude``, and the seed of the noise from ``rng``."""
        return cls(settings.noise_amplitude * rng.uniform(), int(rng.integers(2**63)))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Add the noise; the result has the length of ``samples``."""
        deviation = np.float32(self.amplitude * np.max(np.abs(samples)))
        noise = np.random.default_rng(self.seed).standard_normal(len(samples), dtype=np.float32)
        return samples + deviation * noise
