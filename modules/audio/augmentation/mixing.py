"""Sums of sounds at a given ratio, and sounds at a given level."""

import numpy as np


def mix(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Return the samples plus the noise, scaled to a ratio of their mean powers.

    Args:
        samples: float32 ``[samples]``.
        noise: Of the same shape.
        snr_db: Signal-to-noise ratio in dB.

    Returns:
        float32 ``[samples]``; the samples themselves where either is silent.
    """
    powers = np.mean(np.square(samples, dtype=np.float64)), np.mean(np.square(noise, dtype=np.float64))
    if not all(powers):
        return samples
    return (samples + noise * np.sqrt(powers[0] / powers[1]) * 10 ** (-snr_db / 20)).astype(np.float32)


def with_power_of(samples: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Return samples with the mean power of the original, or less where they would exceed full scale.

    Args:
        samples: float ``[samples]``.
        original: float ``[any number of samples]``.

    Returns:
        float64 ``[samples]``; the samples themselves where they are silent.
    """
    samples = samples.astype(np.float64)
    power = np.mean(np.square(samples))
    if not power:
        return samples
    scaled = samples * np.sqrt(np.mean(np.square(original, dtype=np.float64)) / power)
    return scaled / max(1.0, float(np.abs(scaled).max()))
