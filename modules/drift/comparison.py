"""Whether two samples of recordings differ by more than chance: per feature, in their labels, and as a whole.

How large a difference chance makes depends on the number of clips and, more, on the number of speakers: the clips of
one speaker are alike. So every threshold comes from the samples at hand, with the speakers permuted many times: each
speaker takes the place of another, whole, with as many clips in the one sample and in the other. What the statistics
reach then is what they reach without drift, for so many clips of so many speakers. A speaker who is in both samples
stays in both, and only the clips change sides. This is a permutation test, which keeps its false-alarm rate with few
speakers too (Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, chapter 3); a bootstrap of the
reference's speakers, tried first, alarmed at 15 % of the halves of RAVDESS instead of 2 %.

Three questions share the false-alarm rate equally. Has anything drifted? Each statistic is standardised by its mean and
standard deviation without drift, and the largest of them all decides, so that the thresholds hold for all together (the
single-step maxT of Westfall & Young 1993, Resampling-Based Multiple Testing, section 2.3). Has everything drifted a
little? The mean of the Kolmogorov-Smirnov statistics decides. Are the recordings louder or quieter? Speakers differ in
level by more than most changes of gain do, so what decides is the difference of the mean level of the speakers over its
standard error (Welch), which a change of gain does not inflate as it inflates the permuted
statistics. Where nobody is named, two questions share the rate.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.spatial.distance
import scipy.stats

from modules.data.labels import EMOTIONS
from modules.drift.report import Compared, DriftReport, EmotionDrift, FeatureDrift, LabelDrift, LevelDrift
from modules.drift.settings import DriftSettings

SMOOTHING_CLIPS = 0.5
"""Added to the count of every bin before proportions are taken, so that the PSI of an empty bin is finite."""

MIN_NULL_DEVIATION = 0.01
"""Least standard deviation of a statistic without drift: what hardly ever varies would alarm at a single clip."""

MIN_LEVEL_ERROR_DB = 0.1
"""Least standard error of a difference in level: a single speaker, or equals, would have none."""

MIN_STAND_INS = 8
"""A sample without speakers, however small, is taken to have so many, if the other has twice as many."""

_CHUNK = 64


class NotComparable(ValueError):
    """The two samples cannot be compared; the message says what is missing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Clips to compare.

    Attributes:
        values: ``[clips, features]``.
        names: Of the features.
        speakers: Of each clip, where they are known. Where they are not, consecutive clips stand for one speaker.
        emotions: Of each clip, where they are known.
        levels_db: ``[clips]``, how loud each clip is, where it is known.
    """

    values: np.ndarray
    names: tuple[str, ...]
    speakers: tuple[str, ...] | None = None
    emotions: tuple[str, ...] | None = None
    levels_db: np.ndarray | None = None

    @property
    def clips(self) -> int:
        return len(self.values)

    @property
    def speaker_count(self) -> int | None:
        return None if self.speakers is None else len(set(self.speakers))

    def take(self, rows: np.ndarray | Sequence[int]) -> "Sample":
        """Some of the clips, in the order of ``rows``."""
        return dataclasses.replace(
            self,
            values=self.values[rows],
            speakers=tuple(self.speakers[row] for row in rows) if self.speakers else None,
            emotions=tuple(self.emotions[row] for row in rows) if self.emotions else None,
            levels_db=None if self.levels_db is None else self.levels_db[rows],
        )


Statistic = Literal["ks", "psi", "jensen_shannon"]
STATISTICS: tuple[Statistic, ...] = ("ks", "psi", "jensen_shannon")


def compare(reference: Sample, current: Sample, settings: DriftSettings) -> DriftReport:
    """Compares a sample with the reference.

    Raises:
        NotComparable: A sample is too small, has other features, or has values that are not finite.
    """
    _require_comparable(reference, current, settings)
    rng = np.random.default_rng(settings.seed)
    reference, current = (_thin(sample, settings.max_clips, rng) for sample in (reference, current))
    speakers = _named_speakers(reference, current)
    _require_enough_speakers(speakers[: reference.clips], speakers[reference.clips :], settings)
    pool, levels = _Pool(reference, current, settings.bins), _Levels.of(reference, current, speakers)
    as_they_are = _membership(reference, current)
    permuted = _permute(speakers, reference.clips, settings.permutations, rng)
    seen = pool.measure(*as_they_are)
    rate = settings.false_alarm_rate / (3 if levels else 2)
    report = _report(reference, current, seen, _Judge(seen, pool.measure(*permuted), rate), settings)
    if levels is None:
        return dataclasses.replace(report, p_value=min(1.0, 2 * report.p_value))
    level, p_value = levels.judge(as_they_are, permuted, rate)
    return dataclasses.replace(report, level=level, p_value=min(1.0, 3 * min(report.p_value, p_value)))


def population_stability(reference_counts: np.ndarray, current_counts: np.ndarray) -> np.ndarray:
    """Population stability index over the last axis, of proportions: sum of ``(p - q) ln(p / q)``.

    Siddiqi (2006), Credit Risk Scorecards, p. 136; Yurdakul & Naranjo (2020), Statistical properties of the population
    stability index, Journal of Risk Model Validation 14(4). Counts would give a number that grows with the samples.
    """
    p, q = (_proportions(counts, SMOOTHING_CLIPS) for counts in (reference_counts, current_counts))
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def jensen_shannon(reference_counts: np.ndarray, current_counts: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence over the last axis, base 2: Lin (1991), IEEE Trans. Inf. Theory 37(1)."""
    return np.asarray(scipy.spatial.distance.jensenshannon(reference_counts, current_counts, base=2, axis=-1) ** 2)


def quantile_edges(reference: np.ndarray, bins: int) -> np.ndarray:
    """Inner edges ``[bins - 1, features]`` that put equal shares of the reference between them."""
    return np.asarray(np.quantile(reference, np.arange(1, bins) / bins, axis=0))


def band_means(spectrograms: np.ndarray, valid_frames: np.ndarray) -> np.ndarray:
    """Means ``[clips, bands]`` over the valid frames of ``[clips, frames, bands]``."""
    inside = np.arange(spectrograms.shape[1]) < np.asarray(valid_frames)[:, np.newaxis]
    return np.asarray(np.mean(spectrograms, axis=1, where=inside[:, :, np.newaxis], dtype=np.float64))


def _proportions(counts: np.ndarray, smoothing: float) -> np.ndarray:
    smoothed = np.asarray(counts, np.float64) + smoothing
    return smoothed / smoothed.sum(axis=-1, keepdims=True)


def _require_comparable(reference: Sample, current: Sample, settings: DriftSettings) -> None:
    if reference.names != current.names:
        raise NotComparable(
            f"the reference has {len(reference.names)} features, the current sample {len(current.names)} or others; "
            "compare samples of one audio spec"
        )
    for whose, sample in (("reference", reference), ("current sample", current)):
        if sample.clips < settings.min_clips:
            raise NotComparable(
                f"the {whose} has {sample.clips} clips; at least {settings.min_clips} are needed (drift.min_clips)"
            )
        broken = [
            name for name, fine in zip(sample.names, np.isfinite(sample.values).all(axis=0), strict=True) if not fine
        ]
        if broken:
            raise NotComparable(f"the {whose} has values that are not numbers in {', '.join(broken[:5])}")


def _require_enough_speakers(reference: np.ndarray, current: np.ndarray, settings: DriftSettings) -> None:
    """Where nobody is in both samples, the speakers must have enough permutations for any to be a rare one."""
    ours, others = set(reference.tolist()), set(current.tolist())
    if not ours & others and math.comb(len(ours) + len(others), len(others)) * settings.false_alarm_rate < 1:
        raise NotComparable(
            f"{len(others)} speakers are compared with {len(ours)} others; so few differ by chance as much as by "
            "drift. Add speakers, to 4 and 4 at least, or recordings of the same ones"
        )


def _thin(sample: Sample, max_clips: int, rng: np.random.Generator) -> Sample:
    if sample.clips <= max_clips:
        return sample
    return sample.take(np.sort(rng.choice(sample.clips, max_clips, replace=False)))


def _named_speakers(reference: Sample, current: Sample) -> np.ndarray:
    """Of the reference's clips, then of the current sample's; stand-ins where they are not known."""
    return np.concatenate(
        [
            np.array(one.speakers) if one.speakers is not None else _stand_ins(one.clips, other, name)
            for name, one, other in (("reference", reference, current), ("current", current, reference))
        ]
    )


def _stand_ins(clips: int, other: Sample, name: str) -> np.ndarray:
    """Makes consecutive clips one speaker: about as many as ``other`` has of one, but half as many speakers at most.

    Stand-ins made of many people's clips hardly differ, and permuted among the speakers would make chance look small.
    Half as many make up for that, since the mean of fewer varies more.
    """
    speakers = other.speaker_count or math.isqrt(other.clips)
    count = min(clips, max(2, round(speakers / 2)), max(MIN_STAND_INS, round(clips * speakers / other.clips)))
    return np.array([f"{name} {number * count // clips}" for number in range(clips)])


def _membership(reference: Sample, current: Sample) -> np.ndarray:
    """The two samples as weights of all clips, float32 ``[2, 1, clips]``."""
    return np.repeat(np.eye(2, dtype=np.float32), (reference.clips, current.clips), axis=1)[:, np.newaxis]


def _permute(speakers: np.ndarray, reference_clips: int, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Permute the speakers.

    A speaker takes the place of another: gives as many clips to the reference and to the current sample, chosen at
    random; in proportion where there are not as many.

    Args:
        speakers: Of each clip, those of the reference first.

    Returns:
        1 where a clip is in the reference, and in the current sample, of each permutation; float32
        ``[2, permutations, clips]``.
    """
    _, number_of, sizes = np.unique(speakers, return_inverse=True, return_counts=True)
    to_reference = np.bincount(number_of[:reference_clips], minlength=len(sizes))
    position = np.arange(len(speakers)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    permuted = np.zeros((2, permutations, len(speakers)), np.float32)
    for permutation in range(permutations):
        place = rng.permutation(len(sizes))
        given = np.minimum(sizes, sizes[place])
        kept = np.rint(given * (to_reference[place] / sizes[place]))
        mixed = np.argsort(number_of + rng.random(len(speakers)))  # speaker by speaker
        in_reference = position < np.repeat(kept, sizes)
        permuted[0, permutation, mixed[in_reference]] = 1
        permuted[1, permutation, mixed[~in_reference & (position < np.repeat(given, sizes))]] = 1
    return permuted


_LABELS = "labels"
_SKEWED = ("psi", "jensen_shannon", _LABELS)

_Statistics = dict[str, np.ndarray]
"""``[permutations, n]`` by name: of each feature, or one of the labels, or of each feature within one emotion."""


class _Pool:
    """All clips of both samples. A sample of them is a row of weights, and so a thousand samples are a matrix."""

    def __init__(self, reference: Sample, current: Sample, bins: int) -> None:
        self._values = np.concatenate([reference.values, current.values])
        self._reference_values = reference.values
        self._bins = bins
        self._emotions: dict[str, np.ndarray] = {}
        if reference.emotions is not None and current.emotions is not None:
            named = np.array(reference.emotions + current.emotions)
            self._emotions = {emotion: np.flatnonzero(named == emotion) for emotion in EMOTIONS}

    def measure(self, first: np.ndarray, second: np.ndarray) -> _Statistics:
        """Compares samples given by how often each clip is in them, twice float32 ``[permutations, clips]``."""
        counts = self._bin_counts(first), self._bin_counts(second)
        statistics = {
            "ks": self._ks(first, second),
            "psi": population_stability(*counts),
            "jensen_shannon": jensen_shannon(*counts),
        }
        if self._emotions:
            labels = jensen_shannon(self._label_counts(first), self._label_counts(second))
            statistics |= {_LABELS: labels[:, np.newaxis], **self._rank_shifts(first, second)}
        return statistics

    def _bin_counts(self, weights: np.ndarray) -> np.ndarray:
        edges = quantile_edges(self._reference_values, self._bins)
        bins = np.stack([np.searchsorted(*pair) for pair in zip(edges.T, self._values.T, strict=True)], axis=1)
        return np.stack([weights @ (bins == number).astype(np.float32) for number in range(self._bins)], axis=-1)

    def _ks(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The largest distance of the distribution functions, as :func:`scipy.stats.ks_2samp` has it."""
        difference = (first / first.sum(axis=1, keepdims=True) - second / second.sum(axis=1, keepdims=True)).T
        result = np.empty((len(first), self._values.shape[1]))
        for feature, rows in enumerate(np.argsort(self._values, axis=0).T):
            in_order = self._values[rows, feature]
            inside_step = np.flatnonzero(in_order[1:] == in_order[:-1])  # between equal values nothing is reached
            for start in range(0, len(first), _CHUNK):
                distances = np.cumsum(difference[rows, start : start + _CHUNK], axis=0)
                distances[inside_step] = 0
                largest = np.maximum(distances.max(axis=0), -distances.min(axis=0))
                result[start : start + _CHUNK, feature] = largest
        return result

    def _label_counts(self, weights: np.ndarray) -> np.ndarray:
        return np.stack([weights[:, rows].sum(axis=1) for rows in self._emotions.values()], axis=-1)

    def _rank_shifts(self, first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
        shifts, ranks = {}, scipy.stats.rankdata(self._values, axis=0).astype(np.float32) / len(self._values)
        for emotion, rows in self._emotions.items():
            counts = [weights[:, rows].sum(axis=1, keepdims=True) for weights in (first, second)]
            means = [
                weights[:, rows] @ ranks[rows] / np.maximum(count, 1)
                for weights, count in zip((first, second), counts, strict=True)
            ]
            shifts[emotion] = np.where(np.minimum(*counts) > 0, np.abs(means[0] - means[1]), 0.0)
        return shifts


@dataclasses.dataclass(frozen=True)
class _Levels:
    """How loud the speakers of both samples are, all clips after one another.

    Attributes:
        spoken: 1 where a clip is by a speaker; float32 ``[clips, speakers]``.
        levels_db: ``[clips]``.
    """

    spoken: np.ndarray
    levels_db: np.ndarray

    @classmethod
    def of(cls, reference: Sample, current: Sample, speakers: np.ndarray) -> "_Levels | None":
        """None where nobody is named: the means of stand-ins vary too little to tell an error from."""
        if any(one.levels_db is None or one.speakers is None for one in (reference, current)):
            return None
        _, number_of = np.unique(speakers, return_inverse=True)
        spoken = np.eye(number_of.max() + 1, dtype=np.float32)[number_of]
        return cls(spoken, np.concatenate([reference.levels_db, current.levels_db]).astype(np.float32))

    def judge(self, seen: np.ndarray, permuted: np.ndarray, false_alarm_rate: float) -> tuple[LevelDrift, float]:
        """The difference, the largest that chance explains, and how rare so large a one is."""
        means_db, errors_db = (
            np.concatenate(both, axis=-1) for both in zip(self._measure(*seen), self._measure(*permuted), strict=True)
        )
        ratios = np.abs(means_db[1] - means_db[0]) / errors_db
        limit = np.quantile(ratios, 1 - false_alarm_rate, method="higher")
        difference = Compared(value=float(ratios[0] * errors_db[0]), threshold=float(limit * errors_db[0]))
        level = LevelDrift(
            reference_db=float(means_db[0, 0]), current_db=float(means_db[1, 0]), difference_db=difference
        )
        return level, float(np.mean(ratios >= ratios[0]))

    def _measure(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean levels of both samples, ``[2, permutations]``, and their difference's standard error."""
        means, variances = zip(*(self._over_speakers(weights) for weights in (first, second)), strict=True)
        return np.stack(means), np.maximum(np.sqrt(variances[0] + variances[1]), MIN_LEVEL_ERROR_DB)

    def _over_speakers(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the speakers' mean levels, and its variance, of each permutation."""
        clips = weights @ self.spoken
        there = clips > 0
        levels_db = (weights * self.levels_db) @ self.spoken / np.maximum(clips, 1)
        speakers = there.sum(axis=1)
        mean_db = np.where(there, levels_db, 0).sum(axis=1) / speakers
        squares = np.where(there, (levels_db - mean_db[:, np.newaxis]) ** 2, 0).sum(axis=1)
        return mean_db, squares / np.maximum(speakers - 1, 1) / speakers


class _Judge:
    """Thresholds that hold for all statistics together."""

    def __init__(self, seen: _Statistics, permuted: _Statistics, false_alarm_rate: float) -> None:
        # The samples as they are count as one of the permutations. Without them, those would be measured by a mean and
        # a deviation that they had a part in and the samples had not, and look less extreme for that.
        null = {name: np.concatenate([seen[name], values]) for name, values in permuted.items()}
        self._seen, self._centre, self._spread = seen, {}, {}
        for name, values in null.items():
            self._centre[name] = _unskewed(name, values).mean(axis=0)
            self._spread[name] = np.maximum(_unskewed(name, values).std(axis=0), MIN_NULL_DEVIATION)
        self._largest_by_chance = self._largest(null)
        self._mean_by_chance = null["ks"].mean(axis=1)
        self._level = 1 - false_alarm_rate
        self._limit = np.quantile(self._largest_by_chance, self._level, method="higher")

    @property
    def p_value(self) -> float:
        """Of the rarer one of the two, not yet corrected for the number of questions."""
        in_largest = np.mean(self._largest_by_chance >= self._largest_by_chance[0])
        in_mean = np.mean(self._mean_by_chance >= self._mean_by_chance[0])
        return float(min(in_largest, in_mean))

    @property
    def mean_ks(self) -> Compared:
        threshold = np.quantile(self._mean_by_chance, self._level, method="higher")
        return Compared(value=float(self._mean_by_chance[0]), threshold=float(threshold))

    def compared(self, name: str, number: int = 0) -> Compared:
        threshold = max(0.0, self._centre[name][number] + self._limit * self._spread[name][number])
        return Compared(
            value=float(self._seen[name][0, number]), threshold=float(threshold**2 if name in _SKEWED else threshold)
        )

    def standardised(self, name: str, values: np.ndarray) -> np.ndarray:
        return (_unskewed(name, values) - self._centre[name]) / self._spread[name]

    def _largest(self, statistics: _Statistics) -> np.ndarray:
        return np.max([self.standardised(name, values).max(axis=1) for name, values in statistics.items()], axis=0)


def _unskewed(name: str, values: np.ndarray) -> np.ndarray:
    """Squares of distances are lopsided; their roots are less so, and are standardised with more right."""
    return np.sqrt(np.maximum(values, 0)) if name in _SKEWED else values


def _report(
    reference: Sample, current: Sample, seen: _Statistics, judge: _Judge, settings: DriftSettings
) -> DriftReport:
    extent = np.max([judge.standardised(statistic, seen[statistic])[0] for statistic in STATISTICS], axis=0)
    return DriftReport(
        settings=settings,
        reference_clips=reference.clips,
        reference_speakers=reference.speaker_count,
        current_clips=current.clips,
        current_speakers=current.speaker_count,
        shared_speakers=len(set(reference.speakers or ()) & set(current.speakers or ())),
        p_value=judge.p_value,
        mean_ks=judge.mean_ks,
        features=tuple(
            FeatureDrift(
                name=reference.names[number],
                **{statistic: judge.compared(statistic, number) for statistic in STATISTICS},
                reference_median=float(np.median(reference.values[:, number])),
                current_median=float(np.median(current.values[:, number])),
            )
            for number in np.argsort(-extent, kind="stable")
        ),
        labels=_label_drift(reference, current, judge) if _LABELS in seen else None,
        emotions=tuple(_emotion_drift(emotion, reference, seen, judge) for emotion in EMOTIONS if emotion in seen),
    )


def _label_drift(reference: Sample, current: Sample, judge: _Judge) -> LabelDrift:
    return LabelDrift(
        reference=_label_shares(reference), current=_label_shares(current), jensen_shannon=judge.compared(_LABELS)
    )


def _label_shares(sample: Sample) -> dict[str, float]:
    counts = collections.Counter(sample.emotions)
    return {emotion: counts[emotion] / sample.clips for emotion in EMOTIONS}


def _emotion_drift(emotion: str, reference: Sample, seen: _Statistics, judge: _Judge) -> EmotionDrift:
    worst = int(np.argmax(judge.standardised(emotion, seen[emotion])[0]))
    return EmotionDrift(emotion=emotion, feature=reference.names[worst], rank_shift=judge.compared(emotion, worst))
