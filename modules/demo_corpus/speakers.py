"""Speakers of the demo corpus: 24 vocal tracts and habits, drawn from the seed."""

import dataclasses

import numpy as np

SPEAKERS = 24

_FORMANTS = range(6)
# Adult means and spreads: Peterson & Barney (1952) give women's formants about 15 % above men's, F0 an octave above.
_MALE_PITCH_HZ, _FEMALE_PITCH_HZ = (88.0, 140.0), (165.0, 240.0)
_MALE_TRACT, _FEMALE_TRACT = (0.93, 1.05), (1.07, 1.20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speaker:
    """One synthetic speaker.

    Attributes:
        number: 1 to 24; odd is male, even female, as RAVDESS numbers its actors.
        pitch_hz: Middle of the neutral pitch range.
        pitch_range: Neutral range, highest over lowest.
        formant_percent: Position of each formant relative to espeak-ng's default voice: the vocal tract's length
            and shape.
        formant_gain_percent: Strength of each formant.
        words_per_minute: Neutral rate.
        level_db: Loudness and distance from the microphone.
        tilt_db_per_octave: Brightness of the voice and the microphone.
        noise_db: Level of the room's noise, relative to full scale.
    """

    number: int
    pitch_hz: float
    pitch_range: float
    formant_percent: tuple[float, ...]
    formant_gain_percent: tuple[float, ...]
    words_per_minute: float
    level_db: float
    tilt_db_per_octave: float
    noise_db: float

    @property
    def is_female(self) -> bool:
        """Whether the voice is female."""
        return self.number % 2 == 0

    def voice(self, *, pitch_ratio: float, range_ratio: float) -> str:
        """Return the text of an espeak-ng voice file.

        Args:
            pitch_ratio: Factor of the middle of the pitch range.
            range_ratio: Factor of the width of the pitch range.
        """
        middle_hz = self.pitch_hz * pitch_ratio
        half_range = 0.5 * (self.pitch_range - 1) * range_ratio
        lowest_hz, highest_hz = middle_hz * (1 - half_range / 2), middle_hz * (1 + half_range)
        formants = "\n".join(
            f"formant {formant} {percent:.0f} {gain:.0f} 100"
            for formant, percent, gain in zip(_FORMANTS, self.formant_percent, self.formant_gain_percent, strict=True)
        )
        return (
            f"name demo-{self.number:02d}\nlanguage en-us\nphonemes en-us\ndictrules 3 6\n"
            f"gender {'female' if self.is_female else 'male'}\n"
            "stressLength 140 120 190 170 0 0 255 300\nstressAmp 17 16 19 19 19 19 21 19\n"
            f"pitch {lowest_hz:.0f} {highest_hz:.0f}\nflutter 0\nroughness 0\n{formants}\n"
        )


def draw_speaker(number: int, *, seed: int) -> Speaker:
    """Draw a speaker; equal arguments give equal speakers.

    Args:
        number: Number of the speaker, from 1.
        seed: Seed of the corpus.
    """
    rng = np.random.default_rng([seed, number])
    female = number % 2 == 0
    tract = rng.uniform(*(_FEMALE_TRACT if female else _MALE_TRACT))
    return Speaker(
        number=number,
        pitch_hz=rng.uniform(*(_FEMALE_PITCH_HZ if female else _MALE_PITCH_HZ)),
        pitch_range=rng.uniform(1.35, 1.6),
        formant_percent=tuple(100 * tract * rng.uniform(0.96, 1.04, len(_FORMANTS))),
        formant_gain_percent=tuple(rng.uniform(85, 115, len(_FORMANTS))),
        words_per_minute=rng.uniform(150, 185),
        level_db=rng.normal(0, 1.5),
        tilt_db_per_octave=rng.normal(0, 0.5),
        noise_db=rng.uniform(-66, -56),
    )
