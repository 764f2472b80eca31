"""Sounds in the background of a recording, at a signal-to-noise ratio of the mean powers."""

from collections.abc import Sequence

import numpy as np

from modules.audio.augmentation.coloured_noise import ColouredNoise
from modules.audio.augmentation.mixing import mix
from modules.audio.changes.change import Change, Place, Sound

BABBLE_VOICES = 5
CHORD_SEC = 0.5


def with_noise(*snr_db: float) -> Change:
    """Return a change that adds white noise; the power is relative to that of the whole recording.

    Args:
        *snr_db: Signal-to-noise ratio in dB; one of several is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        chosen_db = snr_db[0] if len(snr_db) == 1 else float(place.rng.choice(snr_db))
        return mix(samples, place.rng.standard_normal(len(samples)), chosen_db), rate_hz

    return change


def with_pink_noise(snr_db: float) -> Change:
    """Return a change that adds noise whose power falls by 3 dB an octave."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        noise = ColouredNoise(exponent=1.0, snr_db=snr_db, seed=int(place.rng.integers(2**63)))
        return noise.apply(samples, sample_rate_hz=rate_hz), rate_hz

    return change


def with_babble(snr_db: float) -> Change:
    """Return a change that adds five other speakers at once, or all if there are fewer."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        count = min(BABBLE_VOICES, len(place.voices))
        chosen = place.rng.choice(len(place.voices), count, replace=False)
        return mix(samples, _sum_of([place.voices[number] for number in chosen], len(samples)), snr_db), rate_hz

    return change


def _sum_of(voices: Sequence[np.ndarray], length: int) -> np.ndarray:
    resized = [np.resize(voice, length) for voice in voices]
    return np.sum([voice / np.std(voice) for voice in resized], axis=0)


def with_music(snr_db: float) -> Change:
    """Return a change that adds plucked major chords on random roots."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        chords = [_chord(rate_hz, place.rng) for _ in range(1 + len(samples) // round(CHORD_SEC * rate_hz))]
        return mix(samples, np.concatenate(chords)[: len(samples)], snr_db), rate_hz

    return change


def _chord(rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    time_sec = np.arange(round(CHORD_SEC * rate_hz)) / rate_hz
    notes_hz = 110 * 2 ** (rng.integers(24) / 12) * np.array([1, 5 / 4, 3 / 2, 2])
    harmonics = np.arange(1, 5)
    phases = 2 * np.pi * notes_hz[:, None, None] * harmonics[:, None] * time_sec
    return (np.sin(phases) / harmonics[:, None]).sum(axis=(0, 1)) * np.exp(-3 * time_sec)


def with_tone(frequencies_hz: tuple[int, int], *snr_db: float) -> Change:
    """Return a change that adds a sine; its peak is relative to that of the recording.

    Args:
        frequencies_hz: Lowest and highest frequency. Recordings whose rate cannot hold the sine stay as they are.
        *snr_db: Ratios of the peaks in dB, of which one is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        frequency_hz = int(place.rng.integers(frequencies_hz[0], frequencies_hz[1] + 1))
        if 2 * frequency_hz >= rate_hz:
            return samples, rate_hz
        amplitude = np.abs(samples).max() * 10 ** (-float(place.rng.choice(snr_db)) / 20)
        return samples + amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(len(samples)) / rate_hz), rate_hz

    return change
