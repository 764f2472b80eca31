"""Sums of sounds at a given ratio."""

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
