"""Metrics of a set of predictions, and their bootstrap intervals over speakers.

Clips of one speaker resemble each other, so whole speakers are drawn with replacement, each with all clips: the cluster
bootstrap (Field & Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007; the bootstrap itself: Efron &
Tibshirani, "An Introduction to the Bootstrap", 1993). Percentile limits of a few clusters are too narrow; the levels
are expanded after Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015
("expanded percentile interval"). For simulated speakers of unequal difficulty, 95 % intervals of UAR then contained the
true value in 89, 94 and 96 % of 400 draws of 4, 8 and 24 speakers; plain percentiles contained it in 79, 87 and 95 %,
drawing clips instead of speakers in 54 to 61 %. With a single speaker clips are drawn, and ``resampled`` states it.

Every metric is a function of sums over speakers (confusion matrix, log loss, calibration bins) or of weighted ranks
(AUC), so a resample costs one matrix product and no metric call. The definitions are scikit-learn's; macro averages
go over the classes that occur among the labels.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from scipy import stats

CALIBRATION_BINS = 10
RESAMPLES = 2000
LEVEL = 0.95
SCALAR_METRICS = ("uar", "accuracy", "macro_precision", "macro_f1", "mcc", "auc", "log_loss", "ece")
CLASS_METRICS = ("class_precision", "class_recall", "class_f1")

_CELLS_PER_CHUNK = 4_000_000  # of float64: 32 MB for a temporary array
_ROW_SUM_TOLERANCE = 1e-3

Scores = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a model for labelled clips.

    Attributes:
        labels: True classes, int64 ``[clips]``.
        probabilities: float64 ``[clips, classes]``; rows sum to 1.
        speakers: Names of the speakers, ``[clips]``.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    speakers: np.ndarray

    @classmethod
    def of(
        cls, labels: Sequence[int] | np.ndarray, probabilities: np.ndarray, speakers: Sequence[str]
    ) -> "Predictions":
        """Return checked predictions whose rows sum to exactly 1.

        Args:
            labels: True classes, int ``[clips]``.
            probabilities: Float ``[clips, classes]``; rows sum to about 1.
            speakers: Names of the speakers, ``[clips]``.

        Raises:
            ValueError: Lengths differ, the clips are empty, a label is out of range, or a row is not a distribution.
        """
        label_array = np.asarray(labels, dtype=np.int64)
        rows = np.asarray(probabilities, dtype=np.float64)
        speaker_array = np.asarray(speakers, dtype=np.str_)
        _require_shapes(label_array, rows, speaker_array)
        _require_distributions(rows)
        return cls(label_array, rows / rows.sum(axis=1, keepdims=True), speaker_array)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.probabilities.shape[1]

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class of each clip, int64 ``[clips]``."""
        return self.probabilities.argmax(axis=1)

    def take(self, chosen: np.ndarray) -> "Predictions":
        """Return the clips where ``chosen``, bool ``[clips]``, is true, or those at positions, int ``[chosen]``."""
        return Predictions(self.labels[chosen], self.probabilities[chosen], self.speakers[chosen])


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A metric with its interval: scalars ``[]``, or ``[classes]``. NaN where it is not defined."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    resampled: Literal["speakers", "clips"]


def rows_by_value(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each value, sorted, and the positions that have it, int64 ``[positions]``, ascending.

    Args:
        values: Texts ``[clips]``.
    """
    names, counts = np.unique(values, return_counts=True)
    rows = np.split(np.argsort(values, kind="stable"), np.cumsum(counts)[:-1])
    yield from zip(names.tolist(), rows, strict=True)


def point_estimates(predictions: Predictions, names: Sequence[str] = SCALAR_METRICS) -> Scores:
    """Return the metrics of all clips.

    Args:
        predictions: Predictions to score.
        names: Names of metrics.

    Returns:
        Values by name, shape ``[]`` for :data:`SCALAR_METRICS` and ``[classes]`` for :data:`CLASS_METRICS`.
    """
    sums = _ClusterSums.of(predictions, np.zeros(len(predictions.labels), dtype=np.int64))
    return {name: score[0] for name, score in sums.scores(np.ones((1, 1)), names).items()}


def estimates(
    predictions: Predictions,
    names: Sequence[str] = SCALAR_METRICS + CLASS_METRICS,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Return metrics with bootstrap intervals over speakers, or over clips of a single speaker.

    Args:
        predictions: Predictions to score.
        names: Names of metrics.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        level: Nominal coverage of the intervals, 0 to 1.
    """
    clusters, resampled = _clusters(predictions.speakers)
    sums = _ClusterSums.of(predictions, clusters)
    chunks = [sums.scores(weights, names) for weights in _draws(clusters, resamples, seed)]
    point = point_estimates(predictions, names)
    return {name: Estimate(point[name], *_limits(_joined(chunks, name), sums.size, level), resampled) for name in names}


def estimate_of(
    speakers: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """Return a statistic of weighted clips with its bootstrap interval over speakers, or over clips of one speaker.

    Args:
        speakers: Name of the speaker of each clip, ``[clips]``.
        statistic: Function from the number of draws of each clip, float64 ``[resamples, clips]``, to the statistic,
            float64 ``[resamples, ...]``. All clips of a speaker are drawn equally often.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        level: Nominal coverage of the intervals, 0 to 1.
    """
    clusters, resampled = _clusters(speakers)
    chunks = [statistic(weights[:, clusters]) for weights in _draws(clusters, resamples, seed)]
    point = statistic(np.ones((1, len(speakers))))[0]
    limits = _limits(np.concatenate(chunks), int(clusters.max()) + 1, level)
    return Estimate(point, *limits, resampled)


def paired_differences(
    candidate: Predictions,
    baseline: Predictions,
    names: Sequence[str] = SCALAR_METRICS,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Return the metrics of the candidate minus those of the baseline, with intervals.

    Both use the same resamples, so that the difficulty of speakers cancels.

    Args:
        candidate: Predictions of the candidate.
        baseline: Predictions of the baseline for the same clips.
        names: Names of metrics.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        level: Nominal coverage of the intervals, 0 to 1.

    Raises:
        ValueError: The predictions are not of the same clips in the same order.
    """
    if not np.array_equal(candidate.labels, baseline.labels) or not np.array_equal(
        candidate.speakers, baseline.speakers
    ):
        raise ValueError(
            f"labels or speakers of the candidate ({len(candidate.labels)} clips) and the baseline "
            f"({len(baseline.labels)} clips) differ; a paired comparison needs predictions of the same clips in the "
            "same order"
        )
    clusters, resampled = _clusters(candidate.speakers)
    ours, theirs = _ClusterSums.of(candidate, clusters), _ClusterSums.of(baseline, clusters)
    chunks = [
        _minus(ours.scores(weights, names), theirs.scores(weights, names))
        for weights in _draws(clusters, resamples, seed)
    ]
    point = _minus(point_estimates(candidate, names), point_estimates(baseline, names))
    return {name: Estimate(point[name], *_limits(_joined(chunks, name), ours.size, level), resampled) for name in names}


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Return clips by true class (rows) and predicted class (columns), int64 ``[classes, classes]``."""
    matrix = np.zeros((predictions.classes, predictions.classes), dtype=np.int64)
    np.add.at(matrix, (predictions.labels, predictions.predicted), 1)
    return matrix


def calibration_sums(predictions: Predictions) -> np.ndarray:
    """Return clips, summed confidence and correct clips of equal-width bins ``(low, high]``, float64 ``[bins, 3]``."""
    return _ClusterSums.of(predictions, np.zeros(len(predictions.labels), dtype=np.int64)).bins[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _ClusterSums:
    """Sums over clusters that determine every metric of a weighted set of clusters.

    Attributes:
        confusion: ``[clusters, classes, classes]``.
        loss: Summed log loss, ``[clusters]``.
        bins: Clips, summed confidence and correct clips per confidence bin, ``[clusters, bins, 3]``.
    """

    predictions: Predictions
    clusters: np.ndarray
    confusion: np.ndarray
    loss: np.ndarray
    bins: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions, clusters: np.ndarray) -> "_ClusterSums":
        size, classes = int(clusters.max()) + 1, predictions.classes
        labels, predicted = predictions.labels, predictions.predicted
        confusion = np.zeros((size, classes, classes))
        np.add.at(confusion, (clusters, labels, predicted), 1)
        loss = np.zeros(size)
        true_probability = predictions.probabilities[np.arange(len(labels)), labels]
        np.add.at(loss, clusters, -np.log(np.maximum(true_probability, np.finfo(np.float64).eps)))
        confidence = predictions.probabilities.max(axis=1)
        bin_of_clip = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
        bins = np.zeros((size, CALIBRATION_BINS, 3))
        per_clip = np.stack([np.ones(len(labels)), confidence, predicted == labels], axis=1)
        np.add.at(bins, (clusters, bin_of_clip), per_clip)
        return cls(predictions, clusters, confusion, loss, bins)

    @property
    def size(self) -> int:
        return len(self.loss)

    def scores(self, weights: np.ndarray, names: Sequence[str]) -> Scores:
        """Return the metrics of weighted clusters.

        Args:
            weights: Number of draws of each cluster, float64 ``[resamples, clusters]``.
            names: Names of metrics.

        Returns:
            Values by name, ``[resamples]`` or ``[resamples, classes]``.
        """
        clips = weights @ self.bins[:, :, 0].sum(axis=1)
        values = confusion_scores(np.tensordot(weights, self.confusion, axes=1))
        values["log_loss"] = weights @ self.loss / clips
        bins = np.tensordot(weights, self.bins, axes=1)
        values["ece"] = np.abs(bins[:, :, 1] - bins[:, :, 2]).sum(axis=1) / clips
        if "auc" in names:
            values["auc"] = self._macro_auc(weights[:, self.clusters])
        return {name: values[name] for name in names}

    def _macro_auc(self, clip_weights: np.ndarray) -> np.ndarray:
        """Return the mean one-vs-rest AUC of weighted clips, ``[resamples, clips]`` -> ``[resamples]``.

        It leaves out classes without a positive or a negative clip.
        """
        return _mean_of_present(np.stack([ranks.auc(clip_weights) for ranks in self._ranks], axis=-1))

    @functools.cached_property
    def _ranks(self) -> list["_Ranks"]:
        labels, probabilities = self.predictions.labels, self.predictions.probabilities
        return [_Ranks.of(labels == number, score) for number, score in enumerate(probabilities.T)]


def confusion_scores(confusion: np.ndarray) -> Scores:
    """Return the metrics that confusion matrices determine.

    Args:
        confusion: Clips by true and predicted class, float64 ``[..., classes, classes]``.

    Returns:
        Values by name, ``[...]`` or, for the names in :data:`CLASS_METRICS`, ``[..., classes]``; NaN for absent
        classes.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, predicted, total = confusion.sum(axis=-1), confusion.sum(axis=-2), confusion.sum(axis=(-2, -1))
    present = true > 0
    recall = np.divide(hits, true, out=np.full_like(hits, np.nan), where=present)
    precision = np.where(present, np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0), np.nan)
    f1 = np.divide(2 * hits, true + predicted, out=np.full_like(hits, np.nan), where=present)
    return {
        "accuracy": hits.sum(axis=-1) / total,
        "uar": _mean_of_present(recall),
        "macro_precision": _mean_of_present(precision),
        "macro_f1": _mean_of_present(f1),
        "mcc": _matthews(hits.sum(axis=-1), true, predicted, total),
        "class_precision": precision,
        "class_recall": recall,
        "class_f1": f1,
    }


def _matthews(hits: np.ndarray, true: np.ndarray, predicted: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the multiclass Matthews correlation (Gorodkin 2004); 0 if one class has all clips, as in scikit-learn."""
    covariance = hits * total - (true * predicted).sum(axis=-1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)


@dataclasses.dataclass(frozen=True, eq=False)
class _Ranks:
    """Order of the scores of one class, the same in every resample.

    Attributes:
        positives: Positions of the clips of the class, int64 ``[positives]``.
        negatives: Positions of the others, sorted by score, int64 ``[negatives]``.
        below: Negatives with a lower score than each positive, int64 ``[positives]``.
        not_above: Negatives with a lower or the same score, int64 ``[positives]``.
    """

    positives: np.ndarray
    negatives: np.ndarray
    below: np.ndarray
    not_above: np.ndarray

    @classmethod
    def of(cls, positive: np.ndarray, score: np.ndarray) -> "_Ranks":
        positives, others = np.flatnonzero(positive), np.flatnonzero(~positive)
        negatives = others[np.argsort(score[others], kind="stable")]
        below, not_above = (np.searchsorted(score[negatives], score[positives], side) for side in ("left", "right"))
        return cls(positives, negatives, below, not_above)

    def auc(self, clip_weights: np.ndarray) -> np.ndarray:
        """Return the weighted share of (positive, negative) pairs in the right order, ties half (Mann-Whitney)."""
        lighter = np.zeros((len(clip_weights), len(self.negatives) + 1))
        np.cumsum(clip_weights[:, self.negatives], axis=1, out=lighter[:, 1:])
        weights = clip_weights[:, self.positives]
        right_order = (weights * (lighter[:, self.below] + lighter[:, self.not_above]) / 2).sum(axis=1)
        pairs = weights.sum(axis=1) * lighter[:, -1]
        return np.divide(right_order, pairs, out=np.full(len(clip_weights), np.nan), where=pairs > 0)


def _clusters(speakers: np.ndarray) -> tuple[np.ndarray, Literal["speakers", "clips"]]:
    """Return the index of each clip's resampling unit, and the kind of the unit."""
    names, index = np.unique(speakers, return_inverse=True)
    if len(names) > 1:
        return index, "speakers"
    return np.arange(len(speakers)), "clips"


def _draws(clusters: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the number of draws of each cluster in chunks, float64 ``[some resamples, clusters]``."""
    random = np.random.default_rng(seed)
    size = int(clusters.max()) + 1
    chunk = max(1, _CELLS_PER_CHUNK // len(clusters))
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        yield random.multinomial(size, np.full(size, 1 / size), size=count).astype(np.float64)


def _limits(samples: np.ndarray, clusters: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return expanded percentile limits over the first axis; NaN for one cluster or without a defined resample."""
    if clusters < 2:
        unknown = np.full(samples.shape[1:], np.nan)
        return unknown, unknown
    tail = (1 - level) / 2
    expanded = float(stats.norm.cdf(np.sqrt(clusters / (clusters - 1)) * stats.t.ppf(tail, clusters - 1)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN slice", category=RuntimeWarning)
        low, high = np.nanquantile(samples, [expanded, 1 - expanded], axis=0)
    return low, high


def _mean_of_present(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without NaN; NaN if all values are."""
    present = ~np.isnan(values)
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _joined(chunks: list[Scores], name: str) -> np.ndarray:
    return np.concatenate([chunk[name] for chunk in chunks], axis=0)


def _minus(ours: Scores, theirs: Scores) -> Scores:
    return {name: ours[name] - theirs[name] for name in ours}


def _require_shapes(labels: np.ndarray, probabilities: np.ndarray, speakers: np.ndarray) -> None:
    if probabilities.ndim != 2 or labels.shape != (len(probabilities),) or speakers.shape != labels.shape:
        raise ValueError(
            f"labels {labels.shape}, probabilities {probabilities.shape} and speakers {speakers.shape} do not match; "
            "allowed: [clips], [clips, classes] and [clips]"
        )
    if not len(labels):
        raise ValueError("the split has 0 clips; give it speakers, or choose another split")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}; allowed with {probabilities.shape[1]} classes: "
            f"0 to {probabilities.shape[1] - 1}"
        )


def _require_distributions(probabilities: np.ndarray) -> None:
    sums = probabilities.sum(axis=1)
    wrong = ~np.isfinite(sums) | (probabilities < 0).any(axis=1) | (np.abs(sums - 1) > _ROW_SUM_TOLERANCE)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{int(wrong.sum())} of {len(sums)} rows are not probability distributions, the first is row {first}: "
            f"{probabilities[first].tolist()}; allowed: finite values of 0 or above that sum to 1. "
            "Apply softmax to logits"
        )
