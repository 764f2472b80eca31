"""Spectral tilt and band limits, as of microphones, their distance and their covers."""

import dataclasses
from collections.abc import Callable

import numpy as np

from modules.audio.augmentation.mixing import with_power_of
from modules.audio.augmentation.settings import AugmentationSettings

_SLOPES_DB = (-4.0, 4.0)  # per octave; the upward tilt of the acceptance tests has 6
_CENTRE_HZ = 1000.0
_LOWEST_HZ = 50.0  # the slope ends here, where speech does
_HIGH_PASS_HZ = (30.0, 300.0)
_LOW_PASS_HZ = (2500.0, 12_000.0)


@dataclasses.dataclass(frozen=True)
class Tilt:
    """A slope over the octaves between two band limits, without a delay.

    Attributes:
        slope_db: Slope in dB per octave; negative ones make the sound duller.
        high_pass_hz: Lower limit, 3 dB down; 12 dB per octave below it, as of a Butterworth filter of order 2.
        low_pass_hz: Upper limit, likewise.
    """

    slope_db: float
    high_pass_hz: float
    low_pass_hz: float

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Tilt":
        """Draw the slope, and limits that are uniform in octaves, from ``rng``; ``settings`` are not used."""
        limits = (float(np.exp(rng.uniform(*np.log(limits)))) for limits in (_HIGH_PASS_HZ, _LOW_PASS_HZ))
        return cls(rng.uniform(*_SLOPES_DB), *limits)

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Filter the samples; length and mean power stay."""
        return weighted(samples, sample_rate_hz, self.gain).astype(np.float32)

    def gain(self, frequencies_hz: np.ndarray) -> np.ndarray:
        """Return the factors of the amplitudes, float64 of the shape of ``frequencies_hz``."""
        hz = np.maximum(frequencies_hz, _LOWEST_HZ)
        slope = 10 ** (self.slope_db * np.log2(hz / _CENTRE_HZ) / 20)
        high_pass = 1 / np.sqrt(1 + (self.high_pass_hz / hz) ** 4)
        return slope * high_pass / np.sqrt(1 + (hz / self.low_pass_hz) ** 4)


def weighted(samples: np.ndarray, rate_hz: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return samples with a gain by frequency, without a delay, at the power of the original.

    Args:
        samples: float ``[samples]``.
        rate_hz: Sample rate.
        gain: Function from frequencies in Hz to factors of the amplitudes.

    Returns:
        float64 ``[samples]``; softer than the original where it would exceed full scale.
    """
    from scipy import fft

    length = fft.next_fast_len(2 * len(samples), real=True)  # with room for the filter's response
    spectrum = np.fft.rfft(samples, length) * gain(np.fft.rfftfreq(length, 1 / rate_hz))
    return with_power_of(np.fft.irfft(spectrum, length)[: len(samples)], samples)
