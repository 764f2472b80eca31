"""Rooms: direct sound and reflections of a box, by the image sources of pyroomacoustics.

Allen and Berkley, "Image method for efficiently simulating small-room acoustics" (1979); Scheibler et al.,
"Pyroomacoustics" (ICASSP 2018). Sizes are those of offices, meeting and lecture rooms as in the ACE corpus (Eaton et
al., 2016); reverberation times and distances contain those of the simulated data of the REVERB challenge, 0.25 to
0.7 s and 0.5 to 2 m (Kinoshita et al., 2016). The rooms of :mod:`modules.audio.changes.room`, which measurements use,
are made in another way.
"""

import dataclasses

import numpy as np

from modules.audio.augmentation.mixing import with_power_of
from modules.audio.augmentation.settings import AugmentationSettings

_SMALLEST_M, _LARGEST_M = (3.0, 3.0, 2.4), (10.0, 10.0, 3.5)
_REVERBERATION_SEC = (0.2, 0.7)
_DISTANCES_M = (0.5, 2.5)
_FROM_WALL_M = 0.5
_HEIGHTS_M = (0.7, 1.8)  # of a mouth or a microphone, from a table to a standing person
_MAX_ORDER = 30  # each order has more images than the one before: 30 take 10 ms, 60 take 80 ms

Point = tuple[float, float, float]
"""Distances in metres from three walls."""


@dataclasses.dataclass(frozen=True)
class Room:
    """A speaker and a microphone in an empty room, whose walls absorb the same share of all frequencies.

    Attributes:
        size_m: Length, width and height in metres.
        reverberation_sec: Time in which the sound decays by 60 dB, by Sabine's formula. In small rooms that reflect
            much it is shorter, since reflections beyond the 30th are left out.
        speaker_m: Place of the speaker.
        microphone_m: Place of the microphone.
    """

    size_m: Point
    reverberation_sec: float
    speaker_m: Point
    microphone_m: Point

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Room":
        """Draw size, reverberation time and places from ``rng``; ``settings`` are not used.

        The microphone stands in the direction of a drawn place of the room, 0.5 to 2.5 m from the speaker or as far as
        that place.
        """
        size = rng.uniform(_SMALLEST_M, _LARGEST_M)
        speaker, aim = (_place(size, rng) for _ in range(2))
        distance = rng.uniform(*_DISTANCES_M)
        microphone = speaker + (aim - speaker) * min(1.0, distance / np.linalg.norm(aim - speaker))
        return cls(_point(size), rng.uniform(*_REVERBERATION_SEC), _point(speaker), _point(microphone))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Return the sound at the microphone, without the delay of the direct sound, at the power of ``samples``."""
        from scipy import signal

        response, delay = self.response(sample_rate_hz)
        wet = signal.fftconvolve(samples, response)[delay : delay + len(samples)]
        return with_power_of(wet, samples).astype(np.float32)

    def response(self, sample_rate_hz: int) -> tuple[np.ndarray, int]:
        """Return the impulse response, float64 ``[samples]``, and the number of the sample of the direct sound.

        Args:
            sample_rate_hz: Sample rate.
        """
        import pyroomacoustics

        # The default is one a core, and each sums a part of the images, so that the sum depends on the machine.
        pyroomacoustics.constants.set("num_threads", 1)
        absorption, order = pyroomacoustics.inverse_sabine(self.reverberation_sec, self.size_m)
        material = pyroomacoustics.Material(absorption)
        room = pyroomacoustics.ShoeBox(
            self.size_m, fs=sample_rate_hz, materials=material, max_order=min(order, _MAX_ORDER)
        )
        room.add_source(self.speaker_m).add_microphone(self.microphone_m).compute_rir()
        distance_m = np.linalg.norm(np.subtract(self.speaker_m, self.microphone_m))
        filter_delay = pyroomacoustics.constants.get("frac_delay_length") // 2
        return room.rir[0][0], filter_delay + round(distance_m / room.c * sample_rate_hz)


def _place(size_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low = (_FROM_WALL_M, _FROM_WALL_M, _HEIGHTS_M[0])
    return rng.uniform(low, (size_m[0] - _FROM_WALL_M, size_m[1] - _FROM_WALL_M, _HEIGHTS_M[1]))


def _point(values: np.ndarray) -> Point:
    x, y, z = values.tolist()
    return x, y, z
