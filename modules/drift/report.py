"""Result of a comparison of two samples by :mod:`modules.drift.comparison`."""

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
        """Whether the value exceeds the threshold."""
        return self.value > self.threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """One feature in both samples.

    Attributes:
        ks: Kolmogorov-Smirnov statistic, 0 to 1.
    """

    name: str
    ks: Compared
    reference_median: float
    current_median: float

    @property
    def drifted(self) -> bool:
        """Whether ``ks`` exceeds its threshold."""
        return self.ks.drifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelDrift:
    """Frequencies of the emotions.

    Attributes:
        reference: Share of each emotion in the reference.
        current: Share of each emotion in the current sample.
        jensen_shannon: Divergence of the two, base 2, 0 to 1.
    """

    reference: Mapping[str, float]
    current: Mapping[str, float]
    jensen_shannon: Compared

    @property
    def drifted(self) -> bool:
        """Whether ``jensen_shannon`` exceeds its threshold."""
        return self.jensen_shannon.drifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmotionDrift:
    """Sound of one emotion. A wrong label mapping changes it even where features and labels are distributed as before.

    Attributes:
        feature: The feature that changed most.
        rank_shift: Change of this feature's mean rank among all clips, 0 to 1, in clips of this emotion.
    """

    emotion: str
    feature: str
    rank_shift: Compared

    @property
    def drifted(self) -> bool:
        """Whether ``rank_shift`` exceeds its threshold."""
        return self.rank_shift.drifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelDrift:
    """Levels of the recordings.

    Attributes:
        reference: Mean level of the speakers of the reference.
        current: Mean level of the speakers of the current sample.
        difference: Absolute difference of the two.
        unit: Unit of all three; empty for the mean of an encoder's channels, which has none.
    """

    reference: float
    current: float
    difference: Compared
    unit: str

    @property
    def drifted(self) -> bool:
        """Whether ``difference`` exceeds its threshold."""
        return self.difference.drifted

    @property
    def sentence(self) -> str:
        """What changed, by how much, and what would be chance."""
        rises, value, limit = self.current > self.reference, self.difference.value, self.difference.threshold
        if not self.unit:
            change = "higher" if rises else "lower"
            return f"The mean of all features is {value:.3f} {change}, over speakers; up to {limit:.3f} is chance."
        change = "louder" if rises else "quieter"
        return f"The speakers are {value:.1f} {self.unit} {change} on average; up to {limit:.1f} {self.unit} is chance."


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftReport:
    """The comparison of two samples.

    Attributes:
        p_value: The smallest p-value of the largest statistic, ``mean_ks`` and ``level``, times their number
            (Bonferroni).
        mean_ks: Mean of the Kolmogorov-Smirnov statistics of all features.
        features: The most drifted first.
        labels: None where a sample has no labels.
        emotions: Empty where a sample has no labels.
        level: None where levels or speakers are unknown.
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
        """Features that drifted, the most drifted first."""
        return tuple(feature for feature in self.features if feature.drifted)

    @property
    def drifted(self) -> bool:
        """Whether any part of the report exceeds its threshold."""
        parts = (self.mean_ks, *self.features, *self.emotions, self.labels, self.level)
        return any(part.drifted for part in parts if part is not None)

    @property
    def labels_suspect(self) -> bool:
        """Whether labels or emotions drifted but the sound did not, as with a broken label mapping."""
        if self.mean_ks.drifted or self.drifted_features or (self.level and self.level.drifted):
            return False
        return bool(self.labels and self.labels.drifted) or any(emotion.drifted for emotion in self.emotions)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences on what drifted; empty without drift."""
        sentences = []
        if self.drifted_features:
            worst = ", ".join(feature.name for feature in self.drifted_features[:3])
            sentences.append(
                f"{len(self.drifted_features)} of {len(self.features)} features drifted, most of all {worst}."
            )
        if self.mean_ks.drifted:
            sentences.append(
                f"All features together drifted: the mean KS is {self.mean_ks.value:.3f}; up to "
                f"{self.mean_ks.threshold:.3f} is chance."
            )
        if self.level is not None and self.level.drifted:
            sentences.append(self.level.sentence)
        if self.labels is not None and self.labels.drifted:
            sentences.append("The frequencies of the emotions changed.")
        emotions = [f"{emotion.emotion} (in {emotion.feature})" for emotion in self.emotions if emotion.drifted]
        if emotions:
            sentences.append(f"Clips with these labels sound different: {', '.join(emotions)}.")
        return tuple(sentences)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, including the verdict and its reasons."""
        return {
            "drifted": self.drifted,
            "labels_suspect": self.labels_suspect,
            "reasons": list(self.reasons),
            **dataclasses.asdict(self),
            "settings": self.settings.model_dump(mode="json"),
        }
