"""Evaluation section of a run's summary, from predictions."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from modules.data import examples
from modules.evaluation import chance
from modules.evaluation.intervals import (
    CALIBRATION_BINS,
    CLASS_METRICS,
    LEVEL,
    RESAMPLES,
    SCALAR_METRICS,
    Estimate,
    Predictions,
    calibration_sums,
    confusion_matrix,
    estimates,
    paired_differences,
    point_estimates,
    rows_by_value,
)
from modules.reporting.summary import (
    MIN_INTERVAL_SPEAKERS,
    Baseline,
    CalibrationBin,
    ClassResult,
    Coverage,
    Difference,
    Evaluation,
    IntervalMethod,
    Metric,
    SliceResult,
)

SLICE_METRICS = ("uar", "accuracy", "macro_f1", "log_loss", "ece")
FEW_SPEAKERS = 10
COVERAGES = (1.0, 0.75, 0.5, 0.25)
LENGTH_BOUNDS_SEC = (2.0, 4.0)


def evaluate(
    labels: Sequence[int] | np.ndarray,
    probabilities: np.ndarray,
    speakers: Sequence[str],
    *,
    classes: Sequence[str],
    slices: Mapping[str, Sequence[str]] | None = None,
    min_confidence: float = 0.0,
    split: str = "test",
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Evaluation:
    """Return metrics with intervals, confusion, slices and calibration of one split.

    Args:
        labels: True classes as indices into ``classes``, int ``[clips]``.
        probabilities: Predictions, float ``[clips, classes]``. For non-finite ones the evaluation counts them and has
            no metrics, so that the gate can reject the model with a reason.
        speakers: Speaker of each clip.
        classes: Names of the classes.
        slices: Value of each clip by dimension (``corpus``, ``sex``, ...). ``emotion`` and ``speaker`` are added.
        min_confidence: Confidence below which the served model gives no emotion. All metrics but the coverages are of
            the most probable emotions, whatever their confidence.
        split: Name of the split.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        level: Nominal coverage of the intervals, 0 to 1.

    Raises:
        ValueError: The shapes of the arrays do not match, or finite rows are not distributions.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    blank = Evaluation(
        split=split,
        clips=len(rows),
        speakers=len(set(speakers)),
        classes=tuple(classes),
        interval=_method(len(set(speakers)), resamples=resamples, seed=seed, level=level),
        non_finite_predictions=int((~np.isfinite(rows)).any(axis=-1).sum()),
    )
    if blank.non_finite_predictions:
        return blank
    predictions = Predictions.of(labels, rows, speakers)
    dimensions = _dimensions(predictions, slices or {}, classes)
    by_name = estimates(predictions, SCALAR_METRICS + CLASS_METRICS, resamples=resamples, seed=seed, level=level)
    confusion = confusion_matrix(predictions)
    return blank.model_copy(
        update={
            "metrics": tuple(_metric(name, by_name[name]) for name in SCALAR_METRICS),
            "per_class": _class_results(by_name, confusion, classes),
            "confusion": tuple(tuple(row) for row in confusion.tolist()),
            "slices": _slice_results(predictions, dimensions, resamples=resamples, seed=seed, level=level),
            "calibration": _calibration(predictions),
            "coverages": coverages(predictions, min_confidence, resamples=resamples, seed=seed, level=level),
            "guessing_p_value": chance.p_value(predictions, seed=seed),
        }
    )


def compare(
    candidate: Predictions,
    baseline: Predictions,
    *,
    name: str,
    split: str = "test",
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Baseline:
    """Return the paired comparison of a candidate with a baseline.

    Args:
        candidate: Predictions of the candidate.
        baseline: Predictions of the baseline for the same clips.
        name: Name of the baseline.
        split: Name of the split.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        level: Nominal coverage of the intervals, 0 to 1.

    Raises:
        ValueError: The clips differ.
    """
    differences = paired_differences(candidate, baseline, resamples=resamples, seed=seed, level=level)
    ours, theirs = point_estimates(candidate), point_estimates(baseline)
    return Baseline(
        name=name,
        split=split,
        clips=len(candidate.labels),
        speakers=len(set(candidate.speakers.tolist())),
        differences=tuple(
            Difference(
                name=metric,
                candidate=float(ours[metric]),
                baseline=float(theirs[metric]),
                difference=float(estimate.value),
                low=float(estimate.low),
                high=float(estimate.high),
            )
            for metric, estimate in differences.items()
        ),
    )


def clip_slices(column: Callable[[str], Sequence[str]], durations_sec: np.ndarray) -> dict[str, Sequence[str]]:
    """Return the slices of clips by corpus, sex, intensity and length.

    Args:
        column: Function that returns a column of the examples as texts, by its name.
        durations_sec: Durations in seconds, float of shape ``[clips]``.

    Returns:
        The value of each clip by dimension.
    """
    slices = {name: column(name) for name in (examples.CORPUS, examples.SEX, examples.INTENSITY)}
    return slices | {"length": [length_slice(float(sec)) for sec in durations_sec]}


def length_slice(duration_sec: float) -> str:
    """Return the name of the length slice of a recording of ``duration_sec``."""
    short_sec, long_sec = LENGTH_BOUNDS_SEC
    if duration_sec < short_sec:
        return f"0 to {short_sec:g} s"
    return f"{short_sec:g} to {long_sec:g} s" if duration_sec < long_sec else f"{long_sec:g} s or more"


def _method(speakers: int, *, resamples: int, seed: int, level: float) -> IntervalMethod:
    drawn = "whole speakers" if speakers > 1 else "clips"
    return IntervalMethod(
        level=level,
        resamples=resamples,
        seed=seed,
        text=(
            f"{100 * level:g} % expanded percentile bootstrap, {resamples} resamples of {drawn} "
            "(Efron & Tibshirani 1993; Field & Welsh 2007; Hesterberg 2015)"
        ),
        caution=_caution(speakers),
    )


def _caution(speakers: int) -> str | None:
    if speakers == 1:
        return "One speaker: the intervals hold for other clips of this speaker, not for other speakers."
    if speakers < MIN_INTERVAL_SPEAKERS:
        return f"Only {speakers} speakers: the intervals are unknown; at least {MIN_INTERVAL_SPEAKERS} are needed."
    if speakers < FEW_SPEAKERS:
        return f"Only {speakers} speakers: the intervals are rough ranges."
    return None


def _dimensions(
    predictions: Predictions, slices: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> dict[str, np.ndarray]:
    emotions = np.asarray(classes, dtype=np.str_)[predictions.labels]
    dimensions = {name: np.asarray(values, dtype=np.str_) for name, values in slices.items()}
    for name, values in dimensions.items():
        if len(values) != len(predictions.labels):
            raise ValueError(f"slice {name!r} has {len(values)} values for {len(predictions.labels)} clips")
    return dimensions | {"emotion": emotions, "speaker": predictions.speakers}


def _slice_results(
    predictions: Predictions, dimensions: Mapping[str, np.ndarray], *, resamples: int, seed: int, level: float
) -> tuple[SliceResult, ...]:
    results = []
    for dimension, values in dimensions.items():
        for value, rows in rows_by_value(values):
            part = predictions.take(rows)
            speakers = len(np.unique(part.speakers))
            names = _slice_metrics(part)
            if speakers < MIN_INTERVAL_SPEAKERS:
                points = point_estimates(part)
                metrics = tuple(Metric(name=name, value=float(points[name])) for name in names)
            else:
                by_name = estimates(part, names, resamples=resamples, seed=seed, level=level)
                metrics = tuple(_metric(name, estimate) for name, estimate in by_name.items())
            results.append(
                SliceResult(
                    dimension=dimension,
                    value=value,
                    clips=len(part.labels),
                    speakers=speakers,
                    emotions=len(np.unique(part.labels)),
                    metrics=metrics,
                )
            )
    return tuple(results)


def _slice_metrics(part: Predictions) -> tuple[str, ...]:
    """Return the metrics of a slice: without F1 inside one emotion, where false alarms are missing."""
    one_class = len(np.unique(part.labels)) == 1
    return tuple(name for name in SLICE_METRICS if not (one_class and name == "macro_f1"))


def _class_results(
    by_name: Mapping[str, Estimate], confusion: np.ndarray, classes: Sequence[str]
) -> tuple[ClassResult, ...]:
    return tuple(
        ClassResult(
            emotion=emotion,
            clips=int(confusion[index].sum()),
            **{name: _metric(name, by_name[f"class_{name}"], index) for name in ("precision", "recall", "f1")},
        )
        for index, emotion in enumerate(classes)
    )


def _metric(name: str, estimate: Estimate, index: int | None = None) -> Metric:
    at = () if index is None else (index,)
    value, low, high = (float(numbers[at]) for numbers in (estimate.value, estimate.low, estimate.high))
    return Metric(name=name, value=value, low=low, high=high, resampled=None if np.isnan(low) else estimate.resampled)


def coverages(
    predictions: Predictions,
    min_confidence: float = 0.0,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Coverage, ...]:
    """Return the accuracy of the most confident clips, at :data:`COVERAGES` and from a confidence.

    Args:
        predictions: Predictions of all clips.
        min_confidence: Confidence below which the served model gives no emotion; 0 for a model that always gives one.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        level: Nominal coverage of the intervals, 0 to 1.
    """
    confidence = predictions.probabilities.max(axis=1)
    ranked = np.sort(confidence)[::-1]
    thresholds = [(ranked[math.ceil(coverage * len(ranked)) - 1], False) for coverage in COVERAGES]
    if min_confidence:
        thresholds.append((min_confidence, True))
    return tuple(
        Coverage(
            coverage=float(np.mean(confidence >= threshold)),
            min_confidence=float(threshold),
            accuracy=_accuracy(predictions.take(confidence >= threshold), resamples=resamples, seed=seed, level=level),
            chosen=chosen,
        )
        for threshold, chosen in thresholds
    )


def _accuracy(part: Predictions, *, resamples: int, seed: int, level: float) -> Metric:
    if not len(part.labels):
        return Metric(name="accuracy")
    by_name = estimates(part, ("accuracy",), resamples=resamples, seed=seed, level=level)
    return _metric("accuracy", by_name["accuracy"])


def _calibration(predictions: Predictions) -> tuple[CalibrationBin, ...]:
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    return tuple(
        CalibrationBin(
            low=round(float(low), 6),
            high=round(float(high), 6),
            clips=int(clips),
            confidence=float(confidence / clips) if clips else None,
            accuracy=float(correct / clips) if clips else None,
        )
        for low, high, (clips, confidence, correct) in zip(
            edges, edges[1:], calibration_sums(predictions).tolist(), strict=False
        )
    )
