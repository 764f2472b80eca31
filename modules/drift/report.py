"""What a comparison of two samples found: :mod:`modules.drift.comparison` makes it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from modules.drift.settings import DriftSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A statistic and the largest value that chance explains."""

    value: float
    threshold: float

    @property
    def drifted(self) -> bool:
        return self.value > self.threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """One feature in both samples.

    Attributes:
        ks: Kolmogorov-Smirnov statistic, 0 to 1.
        psi: Population stability index, 0 and above.
        jensen_shannon: Divergence with logarithms to base 2, 0 to 1.
    """

    name: str
    ks: Compared
    psi: Compared
    jensen_shannon: Compared
    reference_median: float
    current_median: float

    @property
    def drifted(self) -> bool:
        return self.ks.drifted or self.psi.drifted or self.jensen_shannon.drifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelDrift:
    """How often each emotion occurs.

    Attributes:
        reference: Share of each emotion in the reference.
        current: The same in the other sample.
        jensen_shannon: Divergence of the two, base 2.
    """

    reference: Mapping[str, float]
    current: Mapping[str, float]
    jensen_shannon: Compared

    @property
    def drifted(self) -> bool:
        return self.jensen_shannon.drifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmotionDrift:
    """How one emotion sounds: what a wrong label mapping changes, even where every feature and label is as frequent.

    Attributes:
        feature: The one that changed most.
        rank_shift: Change of this feature's mean rank among all clips, 0 to 1, in clips of this emotion.
    """

    emotion: str
    feature: str
    rank_shift: Compared

    @property
    def drifted(self) -> bool:
        return self.rank_shift.drifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelDrift:
    """How loud the recordings are.

    Attributes:
        reference_db: Mean level of the speakers of the reference.
        current_db: The same of the other sample.
        difference_db: Of the two, without its sign.
    """

    reference_db: float
    current_db: float
    difference_db: Compared

    @property
    def drifted(self) -> bool:
        return self.difference_db.drifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftReport:
    """The comparison of two samples.

    Attributes:
        p_value: How rare this much difference is without drift: of the shares of permutations that reach what was seen
            in the largest statistic, in ``mean_ks`` and in ``level``, the smallest, times the number of them.
        mean_ks: Mean of the Kolmogorov-Smirnov statistics of all features.
        features: The most drifted first.
        labels: Where both samples have labels.
        emotions: The same.
        level: Where it is known of both, and who speaks.
    """

    settings: DriftSettings
    reference_clips: int
    reference_speakers: int | None
    current_clips: int
    current_speakers: int | None
    shared_speakers: int
    p_value: float
    mean_ks: Compared
    features: tuple[FeatureDrift, ...]
    labels: LabelDrift | None = None
    emotions: tuple[EmotionDrift, ...] = ()
    level: LevelDrift | None = None

    @property
    def drifted_features(self) -> tuple[FeatureDrift, ...]:
        return tuple(feature for feature in self.features if feature.drifted)

    @property
    def drifted(self) -> bool:
        parts = (self.mean_ks, *self.features, *self.emotions, self.labels, self.level)
        return any(part.drifted for part in parts if part is not None)

    @property
    def labels_suspect(self) -> bool:
        """Whether the sound is as it was, but not what it is called: the mark of a broken label mapping."""
        if self.mean_ks.drifted or self.drifted_features or (self.level and self.level.drifted):
            return False
        return bool(self.labels and self.labels.drifted) or any(emotion.drifted for emotion in self.emotions)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What drifted, in sentences; none when nothing did."""
        sentences = []
        if self.drifted_features:
            worst = ", ".join(feature.name for feature in self.drifted_features[:3])
            sentences.append(
                f"{len(self.drifted_features)} of {len(self.features)} features drifted, most of all {worst}."
            )
        if self.mean_ks.drifted:
            sentences.append(
                f"All features together drifted: the mean KS is {self.mean_ks.value:.3f}, and up to "
                f"{self.mean_ks.threshold:.3f} is chance."
            )
        if self.level is not None and self.level.drifted:
            change = "louder" if self.level.current_db > self.level.reference_db else "quieter"
            sentences.append(
                f"The speakers are {self.level.difference_db.value:.1f} dB {change} on average; up to "
                f"{self.level.difference_db.threshold:.1f} dB is chance."
            )
        if self.labels is not None and self.labels.drifted:
            sentences.append("The emotions occur with other frequencies.")
        emotions = [f"{emotion.emotion} (in {emotion.feature})" for emotion in self.emotions if emotion.drifted]
        if emotions:
            sentences.append(f"Clips with these labels sound different: {', '.join(emotions)}.")
        return tuple(sentences)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the verdict and its reasons among them."""
        return {
            "drifted": self.drifted,
            "labels_suspect": self.labels_suspect,
            "reasons": list(self.reasons),
            **dataclasses.asdict(self),
            "settings": self.settings.model_dump(mode="json"),
        }
