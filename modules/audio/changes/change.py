"""A change of a recording, and its reproducible application."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from modules.audio.decoding import Recording

Sound = tuple[np.ndarray, int]
"""Samples, float ``[samples]``, and their rate in Hz."""


@dataclasses.dataclass(frozen=True)
class Place:
    """What a change may use in addition to the recording.

    Attributes:
        rng: Generator of the clip.
        voices: Recordings of other speakers at the recording's rate, each float ``[samples]``.
    """

    rng: np.random.Generator
    voices: Sequence[np.ndarray] = ()


Change = Callable[[np.ndarray, int, Place], Sound]


def changed(samples: np.ndarray, rate_hz: int, change: Change, *, key: str, voices: Sequence[np.ndarray] = ()) -> Sound:
    """Return a changed recording; the same key gives the same noise in every run.

    Args:
        samples: float32 ``[samples]``.
        rate_hz: Sample rate.
        change: The change.
        key: Seed of the noise as text, such as the id of the clip.
        voices: Recordings of other speakers at the same rate, for babble.

    Returns:
        float32 samples and their rate in Hz.
    """
    place = Place(np.random.default_rng(zlib.crc32(key.encode())), voices)
    result, result_rate_hz = change(samples, rate_hz, place)
    return result.astype(np.float32), result_rate_hz


def unchanged(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return the samples, float ``[samples]``, and their rate in Hz as they are."""
    return samples, rate_hz


class Voices:
    """A recording of each speaker, for babble."""

    def __init__(self, recordings: Mapping[str, Recording]) -> None:
        """Store the recordings.

        Args:
            recordings: Recording of each speaker.
        """
        self._recordings = dict(sorted(recordings.items()))
        self._at_rate: dict[int, dict[str, np.ndarray]] = {}

    def without(self, speaker: str, rate_hz: int) -> list[np.ndarray]:
        """Return the recordings of the other speakers, each float32 ``[samples]``.

        Args:
            speaker: Id of the speaker.
            rate_hz: Sample rate of the result.
        """
        if rate_hz not in self._at_rate:
            self._at_rate[rate_hz] = {name: _at_rate(voice, rate_hz) for name, voice in self._recordings.items()}
        return [samples for name, samples in self._at_rate[rate_hz].items() if name != speaker]


def _at_rate(recording: Recording, rate_hz: int) -> np.ndarray:
    import soxr

    if recording.sample_rate_hz == rate_hz:
        return recording.samples
    return soxr.resample(recording.samples, recording.sample_rate_hz, rate_hz)
