"""How samples are compared. Apart from :mod:`modules.drift.comparison`, whose SciPy takes a while to load."""

import dataclasses

_QUESTIONS = 3  # that share the false-alarm rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftSettings:
    """How samples are compared.

    Attributes:
        false_alarm_rate: Share of comparisons without drift that may alarm, all features together.
        deals: How often the speakers are dealt anew; the thresholds need some 10 / false_alarm_rate.
        bins: Of PSI and Jensen-Shannon, each with the same share of the reference.
        max_clips: A larger sample is thinned at random to so many clips.
        min_clips: Fewer in either sample are not compared.
        seed: Equal seeds give equal reports.
    """

    false_alarm_rate: float = 0.04
    deals: int = 500
    bins: int = 10
    max_clips: int = 4000
    min_clips: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm_rate < 1:
            raise ValueError(f"drift.false_alarm_rate is {self.false_alarm_rate}; it must be above 0 and below 1")
        if self.deals * self.false_alarm_rate < _QUESTIONS:
            raise ValueError(
                f"drift.deals is {self.deals}; a false_alarm_rate of {self.false_alarm_rate} needs at least "
                f"{_QUESTIONS / self.false_alarm_rate:.0f}"
            )
        for name, least in (("bins", 2), ("min_clips", 2), ("max_clips", self.min_clips)):
            if getattr(self, name) < least:
                raise ValueError(f"drift.{name} is {getattr(self, name)}; it must be at least {least}")
