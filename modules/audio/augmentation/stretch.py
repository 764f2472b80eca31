"""Another speed at the same pitch."""

import dataclasses

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Time stretch by a phase vocoder.

    Attributes:
        rate: Speed: the result is ``1 / rate`` times as long.
    """

    rate: float

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Stretch":
        """Take the rate from ``settings``; ``rng`` is not used."""
        return cls(settings.stretch_rate)

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Stretch the time axis; the result is longer than ``samples`` at rates below 1."""
        import librosa.effects

        return librosa.effects.time_stretch(samples, rate=self.rate)
