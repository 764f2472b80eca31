"""Prosody of emotions as offsets from the same speaker's neutral voice.

The signs and the order of sizes follow the reviews of Scherer (2003), Speech Communication 40: 227-256, and
Juslin & Laukka (2003), Psychological Bulletin 129(5): 770-814:

    ========  =====  =====  ====  ========  ============  =============
    emotion   pitch  range  rate  loudness  high-freq.    other
    ========  =====  =====  ====  ========  ============  =============
    angry     up     wide   fast  loud      much          abrupt
    fear      up     less   fast  varies    some          tremor
    happy     up     wide   fast  loud      some more     rising
    sad       low    small  slow  soft      little        pauses, falls
    ========  =====  =====  ====  ========  ============  =============

Neither covers disgust and surprise. Disgust follows Murray & Arnott (1993), JASA 93(2): 1097-1108: much
slower and lower, somewhat wider, softer, with wide falls at the end. Surprise, high and wide with a final rise, is
a choice of this module. So are all numbers, set so that classes overlap.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prosody:
    """Differences from the speaker's neutral voice; all zero is neutral.

    Attributes:
        pitch_semitones: Shift of the middle of the pitch range.
        range_octaves: Change of the width of the pitch range; 1 doubles it.
        rate_octaves: Change of the speaking rate; 1 doubles it.
        level_db: Change of the level.
        tilt_db_per_octave: Change of the slope of the spectrum; above 0 is brighter.
        tremor_percent: Depth of the tremor in pitch.
        pause_ms: Additional pause between words.
        final_semitones: Movement of the pitch over the last third of the sentence.
    """

    pitch_semitones: float = 0.0
    range_octaves: float = 0.0
    rate_octaves: float = 0.0
    level_db: float = 0.0
    tilt_db_per_octave: float = 0.0
    tremor_percent: float = 0.0
    pause_ms: float = 0.0
    final_semitones: float = 0.0

    def as_array(self) -> np.ndarray:
        """Return the values in the order of the fields, float64 ``[8]``."""
        return np.array(dataclasses.astuple(self))


CORRELATES = {
    "angry": Prosody(
        pitch_semitones=2.5, range_octaves=0.6, rate_octaves=0.20, level_db=8.0, tilt_db_per_octave=2.6,
        tremor_percent=0.3, pause_ms=-10, final_semitones=-1.5,
    ),
    "disgust": Prosody(
        pitch_semitones=-2.0, range_octaves=0.2, rate_octaves=-0.30, level_db=-1.5, tilt_db_per_octave=0.8,
        tremor_percent=0.3, pause_ms=25, final_semitones=-4.0,
    ),
    "fear": Prosody(
        pitch_semitones=4.5, range_octaves=-0.4, rate_octaves=0.30, level_db=0.0, tilt_db_per_octave=0.6,
        tremor_percent=2.8, pause_ms=10, final_semitones=1.0,
    ),
    "happy": Prosody(
        pitch_semitones=5.0, range_octaves=0.8, rate_octaves=0.12, level_db=5.0, tilt_db_per_octave=0.8,
        tremor_percent=0.2, pause_ms=-5, final_semitones=1.0,
    ),
    "neutral": Prosody(),
    "sad": Prosody(
        pitch_semitones=-1.5, range_octaves=-0.7, rate_octaves=-0.32, level_db=-6.0, tilt_db_per_octave=-2.0,
        tremor_percent=0.8, pause_ms=60, final_semitones=-2.0,
    ),
    "surprise": Prosody(
        pitch_semitones=6.0, range_octaves=1.0, rate_octaves=-0.02, level_db=2.5, tilt_db_per_octave=-0.6,
        tremor_percent=0.3, pause_ms=5, final_semitones=5.0,
    ),
}  # fmt: skip

_STRENGTH_BY_INTENSITY = {"normal": 0.85, "strong": 1.2}
# Standard deviations, in the order of Prosody's fields, between speakers and between clips of a speaker.
_SPEAKER_SPREAD = Prosody(
    pitch_semitones=0.8, range_octaves=0.2, rate_octaves=0.07, level_db=1.2, tilt_db_per_octave=0.35,
    tremor_percent=0.3, pause_ms=8, final_semitones=0.8,
).as_array()  # fmt: skip
_CLIP_SPREAD = Prosody(
    pitch_semitones=0.8, range_octaves=0.2, rate_octaves=0.06, level_db=1.2, tilt_db_per_octave=0.35,
    tremor_percent=0.3, pause_ms=8, final_semitones=0.8,
).as_array()  # fmt: skip
_EMOTION_NUMBER = {emotion: number for number, emotion in enumerate(CORRELATES)}


def draw_prosody(emotion: str, *, intensity: str, speaker: int, take: int, seed: int) -> Prosody:
    """Draw the prosody of one clip; equal arguments give equal values.

    Args:
        emotion: A key of :data:`CORRELATES`.
        intensity: ``normal`` or ``strong``.
        speaker: Number of the speaker.
        take: Number of the clip among those of this speaker and emotion.
        seed: Seed of the corpus.
    """
    habit = np.random.default_rng([seed, speaker, _EMOTION_NUMBER[emotion]])
    chance = np.random.default_rng([seed, speaker, _EMOTION_NUMBER[emotion], take])
    strength = _STRENGTH_BY_INTENSITY[intensity] * habit.lognormal(0, 0.15) * chance.lognormal(0, 0.15)
    offsets = CORRELATES[emotion].as_array() * strength
    offsets += habit.normal(size=offsets.size) * _SPEAKER_SPREAD + chance.normal(size=offsets.size) * _CLIP_SPREAD
    return Prosody(**dict(zip((field.name for field in dataclasses.fields(Prosody)), offsets, strict=True)))
