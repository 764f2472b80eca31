"""Settings of the AudioExampleGen. It imports nothing slow, since every command reads the configuration."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from components.audio_example_gen.patterns import level_patterns
from modules.audio.augmentation import AugmentationSettings
from modules.audio.decoding import AudioLimits
from modules.audio.spec import AudioSpec
from modules.common.settings import MAX_SEED, Settings
from modules.data.labels import LabelSettings
from modules.data.splits import SplitSettings

FIVE_LEVELS = "*/*/*/*/*"

_SPAN = "{SPAN"  # a width may follow, as in {SPAN:4}


class InputSettings(Settings):
    """Files to read, and the share of them that may be unusable."""

    pattern: str = Field(
        FIVE_LEVELS,
        min_length=1,
        description="A `*` for each level of folders, down to the deepest. In front may stand `{SPAN}` and `{VERSION}` "
        "as in every TFX ExampleGen: `span-{SPAN}/*/*` reads the newest span, two levels deep. Each level must hold a "
        "file or folder then, since TFX looks for the newest span level by level.",
    )
    spans: int = Field(
        1, ge=1, description="Number of spans that are read, the newest and those before it; missing ones are skipped."
    )
    max_quarantined_share: float = Field(
        0.05, ge=0, le=1, description="The run fails when a larger share of the recordings is quarantined."
    )

    @field_validator("pattern")
    @classmethod
    def _require_levels(cls, pattern: str) -> str:
        level_patterns(pattern)
        return pattern

    @model_validator(mode="after")
    def _require_spans(self) -> Self:
        if self.spans > 1 and not self.in_spans:
            raise ValueError(
                f"spans is {self.spans} and pattern {self.pattern}, without {_SPAN}}}; allowed: 1, or recordings in "
                f"numbered folders and a pattern such as span-{_SPAN}}}/*/*"
            )
        return self

    @property
    def in_spans(self) -> bool:
        """Whether the recordings arrive in numbered spans."""
        return _SPAN in self.pattern


class IngestSettings(InputSettings):
    """All settings of the AudioExampleGen."""

    audio: AudioSpec = AudioSpec()
    labels: LabelSettings = LabelSettings()
    splits: SplitSettings = SplitSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    limits: AudioLimits = AudioLimits()
    min_test_speakers: int = Field(1, ge=1, description="Speakers that the test split gets if there are enough.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the augmentation and of the order of the examples.")
