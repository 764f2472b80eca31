"""Babble: several voices in the background."""

import dataclasses

import numpy as np

from modules.audio.augmentation.mixing import mix
from modules.audio.augmentation.settings import AugmentationSettings

_VOICES = (2, 6)
_RATES = (0.8, 1.25)  # another pitch and vocal tract, as of another speaker
_LEVEL_RANGE_DB = 6.0


@dataclasses.dataclass(frozen=True)
class Babble:
    """Voices made of the clip itself: shifted in time, at other rates, and half of them backwards.

    Other clips are not used: in a cross-validation they could be of test speakers.

    Attributes:
        snr_db: Signal-to-noise ratio in dB.
        seed: Seed of the voices.
    """

    snr_db: float
    seed: int

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Babble":
        """Draw the ratio within ``settings.babble_snr_db`` and the seed of the voices from ``rng``."""
        return cls(rng.uniform(*settings.babble_snr_db), int(rng.integers(2**63)))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Add the voices; the result has the length of ``samples``."""
        rng = np.random.default_rng(self.seed)
        voices = [_voice(samples, rng) for _ in range(rng.integers(_VOICES[0], _VOICES[1] + 1))]
        return mix(samples, np.sum(voices, axis=0), self.snr_db)


def _voice(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    import soxr

    voice = soxr.resample(samples, 1.0, rng.uniform(*_RATES))
    if rng.uniform() < 0.5:
        voice = voice[::-1]
    moved = np.roll(np.resize(voice, len(samples)), rng.integers(len(samples)))
    return moved * 10 ** (-rng.uniform(0, _LEVEL_RANGE_DB) / 20)
