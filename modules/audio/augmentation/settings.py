"""Which copies of a training clip are made. Light to import: the configuration reads it."""

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from modules.common.settings import Settings

PLAIN = "plain"
TRANSFORMS: tuple[str, ...] = (
    "noise",
    "stretch",
    "shift",
    "pitch",
    "coloured_noise",
    "babble",
    "telephone",
    "excerpt",
    "room",
    "tilt",
    "codec",
    "hum",
    "music",
    "clipping",
    "gain",
)


def _require_ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("allowed: the lower value first")
    return limits


_Decibels = Annotated[float, Field(ge=-60, le=100)]
DecibelRange = Annotated[
    tuple[_Decibels, _Decibels],
    AfterValidator(_require_ascending),
    Field(json_schema_extra={"allowed": "two numbers from -60 to 100, the lower first"}),
]


class AugmentationSettings(Settings):
    """Which copies of a training clip are made, and how strongly each differs."""

    variants: tuple[str, ...] = Field(
        (PLAIN,),  # the small network augments while it trains
        min_length=1,
        description=f"What is written for each training clip: `{PLAIN}` is the recording itself; the others are "
        f"{', '.join(f'`{name}`' for name in TRANSFORMS)}, or several joined by `+` and applied from left to right.",
        json_schema_extra={"allowed": f"a list of {PLAIN}, {', '.join(TRANSFORMS)}, and several joined by +"},
    )
    noise_std: float = Field(
        0.035,
        gt=0,
        le=1,
        description="Standard deviation of the white noise of `noise`, where full scale is 1, whatever the level of "
        "the clip; `coloured_noise` has a signal-to-noise ratio.",
    )
    noise_snr_db: DecibelRange = Field(
        (5.0, 25.0), description="Lowest and highest signal-to-noise ratio of `coloured_noise` in dB."
    )
    babble_snr_db: DecibelRange = Field(
        (5.0, 20.0), description="Lowest and highest ratio of the speech to the voices of `babble` in dB."
    )
    stretch_rate: float = Field(
        0.8, ge=0.1, le=10, description="Speed of the time-stretched copy; below 1 is slower and longer."
    )
    shift_max_ms: float = Field(
        227.0, gt=0, le=60_000, description="Largest circular shift in either direction in milliseconds."
    )
    pitch_semitones: float = Field(0.7, ge=-24, le=24, description="Pitch shift in semitones at unchanged speed.")

    @field_validator("variants")
    @classmethod
    def _require_known(cls, variants: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(variants)) < len(variants):
            raise ValueError("allowed: each variant once")
        for variant in variants:
            steps_of(variant)
        return variants


def steps_of(variant: str) -> tuple[str, ...]:
    """Return the names of the transforms in ``variant``, in order; none for ``plain``.

    Raises:
        ValueError: The variant names something that is not a transform, or one transform twice.
    """
    steps = () if variant == PLAIN else tuple(variant.split("+"))
    if not set(steps) <= set(TRANSFORMS) or len(set(steps)) < len(steps):
        raise ValueError(
            f"{variant!r} is not a variant; allowed: {PLAIN}, {', '.join(TRANSFORMS)}, and several different "
            "transforms joined by +, such as pitch+noise"
        )
    return steps
