"""Another start: what leaves the clip at one end comes back at the other."""

import dataclasses

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings


@dataclasses.dataclass(frozen=True)
class Shift:
    """Circular shift in time.

    Attributes:
        offset_ms: How much later the clip starts; earlier when negative.
    """

    offset_ms: float

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Shift":
        """Draw the offset, in ms and at most ``settings.shift_max_ms`` in either direction, from ``rng``."""
        return cls(rng.uniform(-settings.shift_max_ms, settings.shift_max_ms))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Roll the samples in a circle; the result has the length of ``samples``."""
        return np.roll(samples, round(self.offset_ms * sample_rate_hz / 1000))
