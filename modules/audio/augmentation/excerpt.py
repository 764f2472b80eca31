"""An excerpt: a second or two of a recording, from about where its sound starts."""

import dataclasses

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings

_LENGTHS_SEC = (0.8, 1.8)
_STARTS_SEC = (-0.2, 0.6)  # relative to the start of the sound
_FRAME_SEC = 0.01
_RANGE_DB = 30.0


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A short part of the clip.

    Attributes:
        start_sec: Start, relative to that of the sound.
        length_sec: Length.
    """

    start_sec: float
    length_sec: float

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Excerpt":
        """Draw start and length from ``rng``; ``settings`` are not used."""
        return cls(rng.uniform(*_STARTS_SEC), rng.uniform(*_LENGTHS_SEC))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Return the excerpt; of a clip that ends before it would start, the last part."""
        length = min(len(samples), round(self.length_sec * sample_rate_hz))
        start = start_of_sound(samples, sample_rate_hz) + round(self.start_sec * sample_rate_hz)
        start = int(np.clip(start, 0, len(samples) - length))
        return samples[start : start + length]


def start_of_sound(samples: np.ndarray, sample_rate_hz: int) -> int:
    """Return the first sample of the first 10 ms within 30 dB of the loudest ones.

    Args:
        samples: float ``[samples]``.
        sample_rate_hz: Sample rate.
    """
    frame = max(1, round(_FRAME_SEC * sample_rate_hz))
    whole = samples[: len(samples) // frame * frame].reshape(-1, frame)
    if not len(whole):
        return 0
    powers = np.square(whole, dtype=np.float64).mean(axis=1)
    return int(np.argmax(powers > powers.max() * 10 ** (-_RANGE_DB / 10))) * frame
