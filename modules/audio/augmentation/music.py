"""Music in the background: sustained melodies of one scale.

The music of :mod:`modules.audio.changes.background`, which measurements use, has another timbre, scale and rhythm:
plucked major chords of equal length.
"""

import dataclasses

import numpy as np

from modules.audio.augmentation.mixing import mix
from modules.audio.augmentation.settings import AugmentationSettings

_SNR_DB = (5.0, 20.0)
_VOICES = (1, 3)
_ROOTS_HZ = (80.0, 350.0)
_SEMITONES = (0, 3, 5, 7, 10, 12)  # minor pentatonic scale, equal temperament
_NOTES_SEC = (0.15, 0.7)
_HARMONICS = np.array((1, 3, 5, 7, 9))  # odd ones, as of a clarinet
_FADED_SHARE = 0.3


@dataclasses.dataclass(frozen=True)
class Music:
    """One to three melodies at once.

    Attributes:
        root_hz: Frequency of the lowest note.
        snr_db: Ratio of the speech to the music in dB.
        seed: Seed of the melodies.
    """

    root_hz: float
    snr_db: float
    seed: int

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Music":
        """Draw the lowest note, the ratio and the seed from ``rng``; ``settings`` are not used."""
        return cls(rng.uniform(*_ROOTS_HZ), rng.uniform(*_SNR_DB), int(rng.integers(2**63)))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Add the melodies; the result has the length of ``samples``."""
        rng = np.random.default_rng(self.seed)
        count = rng.integers(_VOICES[0], _VOICES[1] + 1)
        voices = [_melody(self.root_hz, rng, len(samples), sample_rate_hz) for _ in range(count)]
        return mix(samples, np.sum(voices, axis=0), self.snr_db)


def _melody(root_hz: float, rng: np.random.Generator, length: int, rate_hz: int) -> np.ndarray:
    notes: list[np.ndarray] = []
    while sum(map(len, notes)) < length:
        frequency_hz = root_hz * 2 ** (rng.choice(_SEMITONES) / 12)
        notes.append(_note(frequency_hz, round(rng.uniform(*_NOTES_SEC) * rate_hz), rate_hz))
    return np.concatenate(notes)[:length]


def _note(frequency_hz: float, length: int, rate_hz: int) -> np.ndarray:
    from scipy.signal import windows

    held = _HARMONICS[2 * frequency_hz * _HARMONICS < rate_hz, None]
    tones = np.sin(2 * np.pi * frequency_hz * held * np.arange(length) / rate_hz) / held
    return tones.sum(axis=0) * windows.tukey(length, _FADED_SHARE)
