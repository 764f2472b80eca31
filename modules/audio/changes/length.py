"""Cut and padded recordings."""

import numpy as np

from modules.audio.augmentation.excerpt import start_of_sound
from modules.audio.changes.change import Change, Place, Sound


def _drawn(durations_sec: tuple[float, ...], rate_hz: int, place: Place) -> int:
    """Return the number of samples of a duration, the only one or a drawn one."""
    chosen = durations_sec[0] if len(durations_sec) == 1 else float(place.rng.choice(durations_sec))
    return round(chosen * rate_hz)


def after_silence(*silence_sec: float) -> Change:
    """Return a change that adds silence before the recording.

    Args:
        *silence_sec: Duration; one of several is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return np.concatenate([np.zeros(_drawn(silence_sec, rate_hz, place)), samples]), rate_hz

    return change


def before_silence(*silence_sec: float) -> Change:
    """Return a change that adds silence after the recording.

    Args:
        *silence_sec: Duration; one of several is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return np.concatenate([samples, np.zeros(_drawn(silence_sec, rate_hz, place))]), rate_hz

    return change


def without_beginning(*removed_sec: float) -> Change:
    """Return a change that removes the start of the recording.

    Args:
        *removed_sec: Duration; one of several is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return samples[_drawn(removed_sec, rate_hz, place) :], rate_hz

    return change


def without_end(*removed_sec: float) -> Change:
    """Return a change that removes the end of the recording.

    Args:
        *removed_sec: Duration; one of several is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return samples[: max(0, len(samples) - _drawn(removed_sec, rate_hz, place))], rate_hz

    return change


def first_part(length_sec: float) -> Change:
    """Return a change that keeps the start of the recording."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        return samples[: round(length_sec * rate_hz)], rate_hz

    return change


def one_second_of_speech(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return the second that follows the first 10 ms within 30 dB of the loudest 10 ms."""
    start = start_of_sound(samples, rate_hz)
    return samples[start : start + rate_hz], rate_hz
