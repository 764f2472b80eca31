"""Louder, softer, normalised and clipped recordings."""

import numpy as np

from modules.audio.changes.change import Change, Place, Sound


def with_gain(*gain_db: float) -> Change:
    """Return a change of the gain, with clipping at full scale.

    Args:
        *gain_db: Gain in dB; one of several is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        chosen_db = gain_db[0] if len(gain_db) == 1 else float(place.rng.choice(gain_db))
        return np.clip(samples * 10 ** (chosen_db / 20), -1, 1), rate_hz

    return change


def clipped(*shares: float) -> Change:
    """Return a change that clips the largest samples to the largest of the others.

    Args:
        *shares: Shares of clipped samples, 0 to 1, of which one is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        limit = np.quantile(np.abs(samples), 1 - place.rng.choice(shares))
        return np.clip(samples, -limit, limit), rate_hz

    return change


def at_full_scale(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Scale the samples so that the largest is 1, as many recorders and editors do; silence stays as it is."""
    peak = np.abs(samples).max(initial=0)
    return (samples / peak if peak else samples), rate_hz
