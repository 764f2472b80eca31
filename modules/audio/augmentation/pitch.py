"""Another pitch at the same speed."""

import dataclasses

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings


@dataclasses.dataclass(frozen=True)
class Pitch:
    """Pitch shift by a phase vocoder and a resampling.

    Attributes:
        semitones: How much higher; lower when negative.
    """

    semitones: float

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Pitch":
        """Take the semitones from ``settings``; ``rng`` is not used."""
        return cls(settings.pitch_semitones)

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Shift the pitch; the result has the length of ``samples``."""
        import librosa.effects

        return librosa.effects.pitch_shift(samples, sr=sample_rate_hz, n_steps=self.semitones)
