"""Whether two samples of recordings differ by more than chance: per feature, in their labels, and as a whole.

The clips of one speaker are alike, so the size of chance differences depends on the number of speakers more than on
the number of clips. Thresholds come from a permutation test (Good 2005, Permutation, Parametric and Bootstrap Tests of
Hypotheses, chapter 3): speakers are permuted between the samples, each with all clips. A speaker who is in both samples
stays in both, and only the clips change sides. docs/benchmarks/drift.md compares this with a bootstrap.

Three tests share the false-alarm rate equally:

- The largest of all statistics, each standardised by its mean and standard deviation without drift (the single-step
  maxT of Westfall & Young 1993, Resampling-Based Multiple Testing, section 2.3): one thing drifted.
- The mean of the Kolmogorov-Smirnov statistics: everything drifted a little.
- Welch's statistic of the mean level of the speakers: a gain changed. Speakers differ in level by more than most gains,
  but a gain does not inflate this statistic as it inflates the others. It needs speakers; without them, two tests share
  the rate.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from modules.common.errors import SerError
from modules.drift.level import Levels
from modules.drift.permutation import Thresholds, membership, named_speakers, permute
from modules.drift.report import DriftReport, EmotionDrift, FeatureDrift, LabelDrift
from modules.drift.sample import Sample
from modules.drift.settings import DriftSettings
from modules.drift.statistics import KS, LABELS, Pool, Statistics


class NotComparable(SerError, ValueError):
    """Two samples that cannot be compared."""

    code = "drift.not_comparable"


def compare(reference: Sample, current: Sample, settings: DriftSettings) -> DriftReport:
    """Compare a sample with the reference.

    Args:
        reference: What the other sample is compared with.
        current: The sample that may have drifted.
        settings: Settings of the test.

    Raises:
        NotComparable: A sample is too small, has other features, or has non-finite values.
    """
    _require_comparable(reference, current, settings)
    rng = np.random.default_rng(settings.seed)
    reference, current = (_thin(sample, settings.max_clips, rng) for sample in (reference, current))
    speakers = named_speakers(reference, current)
    _require_enough_speakers(speakers[: reference.clips], speakers[reference.clips :], settings)
    pool, levels = Pool(reference, current), Levels.of(reference, current, speakers)
    as_they_are = membership(reference, current)
    permuted = permute(speakers, reference.clips, settings.permutations, rng)
    seen = pool.measure(*as_they_are)
    rate = settings.false_alarm_rate / (3 if levels else 2)
    report = _report(reference, current, seen, Thresholds(seen, pool.measure(*permuted), rate), settings)
    if levels is None:
        return dataclasses.replace(report, p_value=min(1.0, 2 * report.p_value))
    level, p_value = levels.test(as_they_are, permuted, rate)
    return dataclasses.replace(report, level=level, p_value=min(1.0, 3 * min(report.p_value, p_value)))


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
            raise NotComparable(f"the {whose} has non-finite values in {', '.join(broken[:5])}")


def _require_enough_speakers(reference: np.ndarray, current: np.ndarray, settings: DriftSettings) -> None:
    """Refuse disjoint groups of speakers with too few permutations for the false-alarm rate."""
    ours, others = set(reference.tolist()), set(current.tolist())
    if not ours & others and math.comb(len(ours) + len(others), len(others)) * settings.false_alarm_rate < 1:
        raise NotComparable(
            f"{len(others)} speakers are compared with {len(ours)} others, too few to distinguish drift from "
            "chance; add speakers, to 4 and 4 at least, or recordings of the same ones"
        )


def _thin(sample: Sample, max_clips: int, rng: np.random.Generator) -> Sample:
    if sample.clips <= max_clips:
        return sample
    return sample.take(np.sort(rng.choice(sample.clips, max_clips, replace=False)))


def _report(
    reference: Sample, current: Sample, seen: Statistics, thresholds: Thresholds, settings: DriftSettings
) -> DriftReport:
    extent = thresholds.standardised(KS, seen[KS])[0]
    named = sorted({*(reference.emotions or ()), *(current.emotions or ())})
    return DriftReport(
        settings=settings,
        reference_clips=reference.clips,
        reference_speakers=reference.speaker_count,
        current_clips=current.clips,
        current_speakers=current.speaker_count,
        shared_speakers=len(set(reference.speakers or ()) & set(current.speakers or ())),
        p_value=thresholds.p_value,
        mean_ks=thresholds.mean_ks,
        features=tuple(
            FeatureDrift(
                name=reference.names[number],
                ks=thresholds.compared(KS, number),
                reference_median=float(np.median(reference.values[:, number])),
                current_median=float(np.median(current.values[:, number])),
            )
            for number in np.argsort(-extent, kind="stable")
        ),
        labels=_label_drift(reference, current, named, thresholds) if LABELS in seen else None,
        emotions=tuple(_emotion_drift(emotion, reference, seen, thresholds) for emotion in named if emotion in seen),
    )


def _label_drift(reference: Sample, current: Sample, emotions: Sequence[str], thresholds: Thresholds) -> LabelDrift:
    return LabelDrift(
        reference=_label_shares(reference, emotions),
        current=_label_shares(current, emotions),
        jensen_shannon=thresholds.compared(LABELS),
    )


def _label_shares(sample: Sample, emotions: Sequence[str]) -> dict[str, float]:
    counts = collections.Counter(sample.emotions)
    return {emotion: counts[emotion] / sample.clips for emotion in emotions}


def _emotion_drift(emotion: str, reference: Sample, seen: Statistics, thresholds: Thresholds) -> EmotionDrift:
    worst = int(np.argmax(thresholds.standardised(emotion, seen[emotion])[0]))
    return EmotionDrift(emotion=emotion, feature=reference.names[worst], rank_shift=thresholds.compared(emotion, worst))
