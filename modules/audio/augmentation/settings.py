"""Which copies of a training clip are made. Light to import: the configuration reads it."""

import dataclasses

PLAIN = "plain"
TRANSFORMS: tuple[str, ...] = ("noise", "stretch", "shift", "pitch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """Which copies of a training clip are made, and how strongly each differs.

    Attributes:
        variants: What is written for every training clip: ``plain`` is the recording itself; the others are a
            transform, or several joined by ``+`` and applied from left to right.
        noise_amplitude: White noise has a standard deviation drawn between 0 and this share of the clip's peak.
        stretch_rate: Speed of the time-stretched copy: below 1 is slower and longer.
        shift_max_ms: The circular shift is drawn between minus and plus this.
        pitch_semitones: Shift of the pitch at unchanged speed.
    """

    variants: tuple[str, ...] = ("plain", "noise", "pitch", "pitch+noise")
    noise_amplitude: float = 0.035
    stretch_rate: float = 0.8
    shift_max_ms: float = 227.0
    pitch_semitones: float = 0.7

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", tuple(self.variants))
        for name in ("noise_amplitude", "stretch_rate", "shift_max_ms"):
            if not getattr(self, name) > 0:
                raise ValueError(f"augmentation.{name} is {getattr(self, name)}; it must be above 0")
        if not self.variants:
            raise ValueError(f"augmentation.variants is empty; list at least {PLAIN!r}")
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"augmentation.variants names one twice: {', '.join(self.variants)}")
        for variant in self.variants:
            steps_of(variant)


def steps_of(variant: str) -> tuple[str, ...]:
    """Names of the transforms that make up ``variant``, in order; none for ``plain``.

    Raises:
        ValueError: The variant names something that is no transform, or one transform twice.
    """
    steps = () if variant == PLAIN else tuple(variant.split("+"))
    if not set(steps) <= set(TRANSFORMS) or len(set(steps)) < len(steps):
        raise ValueError(
            f"augmentation.variants names {variant!r}; known are {PLAIN!r}, {', '.join(map(repr, TRANSFORMS))} and "
            "compositions of different ones joined by '+', such as 'pitch+noise'"
        )
    return steps
