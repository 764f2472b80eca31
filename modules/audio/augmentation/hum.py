"""Electrical interference: hum of the mains, and the whine of a power supply."""

import dataclasses

import numpy as np

from modules.audio.augmentation.mixing import mix
from modules.audio.augmentation.settings import AugmentationSettings

_MAINS_HZ = (50, 60)
_HARMONICS = 12
_RANGE_DB = 24.0
_HUM_SNR_DB = (10.0, 30.0)
_WHINES_HZ = (500.0, 4500.0)  # below the tones of the acceptance tests, from 5 kHz
_WHINE_SNR_DB = (20.0, 40.0)


@dataclasses.dataclass(frozen=True)
class Hum:
    """Harmonics of the mains, each up to 24 dB below the loudest, and one steady sine.

    Attributes:
        mains_hz: Frequency of the mains.
        snr_db: Ratio of the speech to the hum in dB.
        whine_hz: Frequency of the sine.
        whine_snr_db: Ratio of the speech to the sine in dB.
        seed: Seed of the levels and phases.
    """

    mains_hz: int
    snr_db: float
    whine_hz: float
    whine_snr_db: float
    seed: int

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Hum":
        """Draw frequencies, ratios and the seed from ``rng``; ``settings`` are not used."""
        mains_hz = _MAINS_HZ[rng.integers(len(_MAINS_HZ))]
        snr_db, whine_hz, whine_snr_db = (rng.uniform(*each) for each in (_HUM_SNR_DB, _WHINES_HZ, _WHINE_SNR_DB))
        return cls(mains_hz, snr_db, whine_hz, whine_snr_db, int(rng.integers(2**63)))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Add both; the result has the length of ``samples``. Frequencies that the rate cannot hold are left out."""
        rng = np.random.default_rng(self.seed)
        harmonics_hz = self.mains_hz * np.arange(1, _HARMONICS + 1)
        levels = 10 ** (-rng.uniform(0, _RANGE_DB, _HARMONICS) / 20)
        hum = _sines(harmonics_hz, levels, rng, len(samples), sample_rate_hz)
        whine = _sines(np.array([self.whine_hz]), np.ones(1), rng, len(samples), sample_rate_hz)
        return mix(mix(samples, hum, self.snr_db), whine, self.whine_snr_db)


def _sines(
    frequencies_hz: np.ndarray, levels: np.ndarray, rng: np.random.Generator, length: int, rate_hz: int
) -> np.ndarray:
    phases = rng.uniform(0, 2 * np.pi, len(levels))
    time_sec = np.arange(length) / rate_hz
    sines = np.sin(2 * np.pi * frequencies_hz[:, None] * time_sec + phases[:, None])
    return np.sum((levels * (2 * frequencies_hz < rate_hz))[:, None] * sines, axis=0)
