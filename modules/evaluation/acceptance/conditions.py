"""Changed recordings of the robustness tests.

Differences from ser-tests, whose sounds are not part of this project: babble is five other speakers of the data (not
4 to 7 of MUSAN), music is synthesised, pink noise takes the place of MUSAN's environmental noise, and rooms are
simulated with volumes, reverberation times and distances of the Aachen Impulse Response database (Jeub et al., "A
binaural room impulse response database for the evaluation of dereverberation algorithms", DSP 2009), with one of its
rooms in place of MARDY for the positions. Coughs, sneezes and recordings by two microphones at once are missing. The
published numbers of samples are those of 16 kHz.
"""

import dataclasses

from modules.audio.changes import Change, background, channel, length, level
from modules.audio.changes.room import Room, in_a_room
from modules.evaluation.acceptance import bounds

_CUTS_SEC = tuple(samples / 16_000 for samples in (100, 500, 1000))
_BOOTH = Room(volume_m3=11.9, reverberation_sec=0.12, distance_m=1.5)
_OFFICE = Room(volume_m3=92.8, reverberation_sec=0.43, distance_m=2.0)
_MEETING = Room(volume_m3=124.0, reverberation_sec=0.23, distance_m=1.9)
_LECTURE = Room(volume_m3=370.8, reverberation_sec=0.78, distance_m=2.25)


@dataclasses.dataclass(frozen=True)
class Condition:
    """A change of the recordings after which predictions should stay.

    Attributes:
        test: Name of the test.
        name: Name of the change.
        change: The change.
        reference: Key of :data:`REFERENCES`, whose predictions should stay; None for those of the recordings as they
            are.
        needs_voices: Whether the change needs recordings of other speakers.
        needs_codec: Whether the change needs the optional PyAV.
    """

    test: str
    name: str
    change: Change
    reference: str | None = None
    needs_voices: bool = False
    needs_codec: bool = False


REFERENCES: dict[str, Change] = {
    "office at 1 m": in_a_room(dataclasses.replace(_OFFICE, distance_m=1.0)),
    "studio booth": in_a_room(_BOOTH),
}

CONDITIONS: tuple[Condition, ...] = (
    Condition(bounds.BACKGROUND_NOISE, "babble, 20 dB", background.with_babble(20), needs_voices=True),
    Condition(bounds.BACKGROUND_NOISE, "music, 20 dB", background.with_music(20)),
    Condition(bounds.BACKGROUND_NOISE, "pink noise, 20 dB", background.with_pink_noise(20)),
    Condition(bounds.BACKGROUND_NOISE, "white noise, 20 dB", background.with_noise(20)),
    Condition(bounds.LOW_QUALITY_PHONE, "low-quality phone", channel.over_a_low_quality_phone, needs_codec=True),
    Condition(
        bounds.SIMULATED_RECORDING_CONDITION,
        "position: office at 2 or 3 m",
        in_a_room(*(dataclasses.replace(_OFFICE, distance_m=distance_m) for distance_m in (2.0, 3.0))),
        reference="office at 1 m",
    ),
    Condition(
        bounds.SIMULATED_RECORDING_CONDITION,
        "room: lecture, meeting or office",
        in_a_room(_LECTURE, _MEETING, _OFFICE),
        reference="studio booth",
    ),
    Condition(bounds.SMALL_CHANGES, "additive tone", background.with_tone((5000, 7000), 40, 45, 50)),
    Condition(bounds.SMALL_CHANGES, "append zeros", length.before_silence(*_CUTS_SEC)),
    Condition(bounds.SMALL_CHANGES, "clip", level.clipped(0.001, 0.002, 0.003)),
    Condition(bounds.SMALL_CHANGES, "crop beginning", length.without_beginning(*_CUTS_SEC)),
    Condition(bounds.SMALL_CHANGES, "crop end", length.without_end(*_CUTS_SEC)),
    Condition(bounds.SMALL_CHANGES, "gain", level.with_gain(-2, -1, 1, 2)),
    Condition(bounds.SMALL_CHANGES, "high-pass filter", channel.high_passed(50, 100, 150)),
    Condition(bounds.SMALL_CHANGES, "low-pass filter", channel.low_passed(7500, 7000, 6500)),
    Condition(bounds.SMALL_CHANGES, "prepend zeros", length.after_silence(*_CUTS_SEC)),
    Condition(bounds.SMALL_CHANGES, "white noise, 35 to 45 dB", background.with_noise(35, 40, 45)),
    Condition(bounds.SPECTRAL_TILT, "downward tilt", channel.tilted_down),
    Condition(bounds.SPECTRAL_TILT, "upward tilt", channel.tilted_up),
)
