"""Simulated rooms: direct sound and a diffuse tail.

The tail is Gaussian noise that decays exponentially, by 60 dB in the reverberation time (Polack, "La transmission de
l'énergie sonore dans les salles", thesis, Université du Maine, 1988). Its energy relative to the direct sound is that
of a diffuse field: the square of the distance over the critical distance, 0.057 sqrt(volume / reverberation time) in
metres (Kuttruff, "Room Acoustics", 2009). There are no early reflections and no frequency dependence.
"""

import dataclasses

import numpy as np

from modules.audio.changes.change import Change, Place, Sound


@dataclasses.dataclass(frozen=True)
class Room:
    """A room and the place of its microphone.

    Attributes:
        volume_m3: Volume in cubic metres.
        reverberation_sec: Time in which the sound decays by 60 dB.
        distance_m: Distance of speaker and microphone in metres.
    """

    volume_m3: float
    reverberation_sec: float
    distance_m: float

    def response(self, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
        """Return an impulse response, float64 ``[samples]``, whose first sample is the direct sound of amplitude 1.

        Args:
            rate_hz: Sample rate.
            rng: Generator of the tail.
        """
        time_sec = np.arange(1, round(self.reverberation_sec * rate_hz)) / rate_hz
        tail = rng.standard_normal(len(time_sec)) * 10 ** (-3 * time_sec / self.reverberation_sec)
        critical_m = 0.057 * np.sqrt(self.volume_m3 / self.reverberation_sec)
        return np.concatenate([[1.0], tail / np.linalg.norm(tail) * self.distance_m / critical_m])


def in_a_room(*rooms: Room) -> Change:
    """Return a change that puts the speaker into a room, with a peak at full scale.

    Args:
        *rooms: Rooms; one of several is drawn for each recording.
    """

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        from scipy import signal

        room = rooms[int(place.rng.integers(len(rooms)))]
        wet = signal.fftconvolve(samples, room.response(rate_hz, place.rng))[: len(samples)]
        return wet / (np.abs(wet).max() or 1), rate_hz

    return change
