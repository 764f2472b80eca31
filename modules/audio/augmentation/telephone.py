"""The telephone: a narrow band at 8 kHz, and a codec."""

import dataclasses

import numpy as np

from modules.audio.augmentation.codec import coded, of_length
from modules.audio.augmentation.settings import AugmentationSettings

RATE_HZ = 8000
BAND_HZ = (300, 3400)
"""Band of a telephone channel, ITU-T G.712."""

CODECS = ("PCM_16", "ULAW", "ALAW", "GSM610")
"""Subtypes of libsndfile: none, G.711's two laws, GSM 06.10."""


@dataclasses.dataclass(frozen=True)
class Telephone:
    """A telephone call.

    Attributes:
        codec: One of :data:`CODECS`.
    """

    codec: str

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Telephone":
        """Draw the codec from ``rng``; ``settings`` are not used."""
        return cls(CODECS[rng.integers(len(CODECS))])

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Limit the band and apply the codec; the result has the length of ``samples``."""
        import soxr

        received = coded(in_band(samples, sample_rate_hz), RATE_HZ, "WAV", self.codec)
        return of_length(soxr.resample(received, RATE_HZ, sample_rate_hz), len(samples))


def in_band(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return the band of a telephone channel at :data:`RATE_HZ`, by a Butterworth band-pass of order 8.

    Args:
        samples: float ``[samples]``.
        sample_rate_hz: Sample rate.
    """
    import soxr
    from scipy import signal

    narrow = soxr.resample(samples, sample_rate_hz, RATE_HZ)
    return signal.sosfilt(signal.butter(4, BAND_HZ, btype="bandpass", fs=RATE_HZ, output="sos"), narrow)
