"""Coloured noise at a ratio to the speech: from hiss to rumble."""

import dataclasses

import numpy as np

from modules.audio.augmentation.mixing import mix
from modules.audio.augmentation.settings import AugmentationSettings

_EXPONENTS = (-0.5, 2.0)  # of the power's fall with frequency: -0.5 is bluish, 0 white, 1 pink, 2 brown


@dataclasses.dataclass(frozen=True)
class ColouredNoise:
    """Gaussian noise whose power falls with frequency.

    Attributes:
        exponent: The power is proportional to ``frequency ** -exponent``.
        snr_db: Signal-to-noise ratio in dB.
        seed: Seed of the noise itself.
    """

    exponent: float
    snr_db: float
    seed: int

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "ColouredNoise":
        """Draw the colour, the ratio within ``settings.noise_snr_db`` and the seed of the noise from ``rng``."""
        return cls(rng.uniform(*_EXPONENTS), rng.uniform(*settings.noise_snr_db), int(rng.integers(2**63)))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Add the noise; the result has the length of ``samples``."""
        spectrum = np.fft.rfft(np.random.default_rng(self.seed).standard_normal(len(samples)))
        frequencies = np.maximum(np.arange(len(spectrum)), 1)
        noise = np.fft.irfft(spectrum * frequencies ** (-self.exponent / 2), len(samples))
        return mix(samples, noise, self.snr_db)
