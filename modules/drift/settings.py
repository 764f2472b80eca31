"""Settings of the comparison; separate from :mod:`modules.drift.comparison`, since SciPy is slow to import."""

from typing import Self

from pydantic import Field, model_validator

from modules.common.settings import MAX_SEED, Settings

_TESTS = 3  # they share the false-alarm rate


class DriftSettings(Settings):
    """Settings of the comparison of two samples."""

    false_alarm_rate: float = Field(
        0.04, gt=0, lt=1, description="Share of comparisons without drift that may alarm, all features together."
    )
    permutations: int = Field(
        500,
        ge=1,
        description="Permutations of the speakers that set the thresholds; they need about 10 / `false_alarm_rate`.",
    )
    max_clips: int = Field(4000, ge=2, description="A larger sample is thinned at random to this many clips.")
    min_clips: int = Field(20, ge=2, description="Samples with fewer clips are not compared.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Equal seeds give equal reports.")

    @model_validator(mode="after")
    def _require_permutations(self) -> Self:
        least = _TESTS / self.false_alarm_rate
        if self.permutations < least:
            raise ValueError(
                f"permutations is {self.permutations}; allowed with a false_alarm_rate of {self.false_alarm_rate}: "
                f"{least:.0f} or above"
            )
        return self

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.min_clips > self.max_clips:
            raise ValueError(f"min_clips is {self.min_clips}; allowed: at most max_clips, {self.max_clips}")
        return self
