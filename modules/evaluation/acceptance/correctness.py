"""Correctness: recall and precision, shares of the classes, and shares of each speaker's classes."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from modules.evaluation.acceptance import bounds
from modules.evaluation.acceptance.checks import checks_of, confusions
from modules.evaluation.intervals import CLASS_METRICS, Predictions, estimate_of, estimates
from modules.reporting.summary import AcceptanceCheck, SkippedTest

_TITLES = {"uar": "UAR", "macro_precision": "macro precision", "class_recall": "recall", "class_precision": "precision"}


def classification(predictions: Predictions, classes: Sequence[str]) -> Iterator[AcceptanceCheck]:
    """Yield the checks of UAR, macro precision, and recall and precision of each class.

    Args:
        predictions: Predictions of the clips.
        classes: Names of the classes.
    """
    by_name = estimates(predictions, tuple(_TITLES))
    for metric, title in _TITLES.items():
        names = [f"{title} of {name}" for name in classes] if metric in CLASS_METRICS else [title]
        yield from checks_of(
            bounds.CORRECTNESS_CLASSIFICATION,
            names,
            by_name[metric],
            bound=bounds.SCORE_ABOVE,
            kind="above",
            speakers=len(set(predictions.speakers)),
        )


def distribution(predictions: Predictions, classes: Sequence[str]) -> Iterator[AcceptanceCheck]:
    """Yield the checks of each class's predicted share minus its true share of all clips.

    Args:
        predictions: Predictions of the clips.
        classes: Names of the classes.
    """

    def difference(weights: np.ndarray) -> np.ndarray:
        matrices = confusions(weights, predictions)
        return (matrices.sum(axis=1) - matrices.sum(axis=2)) / matrices.sum(axis=(1, 2))[:, None]

    yield from checks_of(
        bounds.CORRECTNESS_DISTRIBUTION,
        [f"share of {name}" for name in classes],
        estimate_of(predictions.speakers, difference),
        bound=bounds.CLASS_SHARE_WITHIN,
        kind="within",
        speakers=len(set(predictions.speakers)),
    )


def of_speakers(predictions: Predictions, classes: Sequence[str]) -> Iterator[AcceptanceCheck | SkippedTest]:
    """Yield the checks of the speakers' shares of each class: their mean absolute error and their rank correlation.

    Only speakers with enough clips of each class count, as in ser-tests. A class whose true shares differ between the
    speakers by less than the bound of the error has no ranking.

    Args:
        predictions: Predictions of the clips.
        classes: Names of the classes.
    """
    names = _frequent_speakers(predictions)
    if len(names) < 2:
        reason = (
            f"{len(names)} speakers have {bounds.MIN_SPEAKER_CLIPS} clips, {bounds.MIN_SPEAKER_CLASS_CLIPS} of each "
            "emotion; the test needs two such speakers"
        )
        yield SkippedTest(test=bounds.CORRECTNESS_SPEAKER_AVERAGE, reason=reason)
        yield SkippedTest(test=bounds.CORRECTNESS_SPEAKER_RANKING, reason=reason)
        return
    true, predicted = _shares(predictions, names)
    errors = np.abs(predicted - true)
    yield from checks_of(
        bounds.CORRECTNESS_SPEAKER_AVERAGE,
        [f"error of the share of {name}" for name in classes],
        estimate_of(names, lambda weights: weights @ errors / weights.sum(axis=1, keepdims=True)),
        bound=bounds.SPEAKER_SHARE_WITHIN,
        kind="within",
        speakers=len(names),
    )
    yield from _ranking(true, predicted, names, classes)


def _frequent_speakers(predictions: Predictions) -> np.ndarray:
    """Return the names of the speakers with enough clips, and enough of each class that occurs."""
    names, index = np.unique(predictions.speakers, return_inverse=True)
    clips = np.zeros((len(names), predictions.classes), dtype=np.int64)
    np.add.at(clips, (index, predictions.labels), 1)
    occurring = clips.sum(axis=0) > 0
    enough = (clips[:, occurring] >= bounds.MIN_SPEAKER_CLASS_CLIPS).all(axis=1)
    return names[enough & (clips.sum(axis=1) >= bounds.MIN_SPEAKER_CLIPS)]


def _shares(predictions: Predictions, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the predicted share of each class, float64 ``[speakers, classes]``."""
    frequent = predictions.take(np.isin(predictions.speakers, names))
    matrices = np.zeros((len(names), predictions.classes, predictions.classes))
    np.add.at(matrices, (np.searchsorted(names, frequent.speakers), frequent.labels, frequent.predicted), 1)
    totals = matrices.sum(axis=(1, 2))[:, None]
    return matrices.sum(axis=2) / totals, matrices.sum(axis=1) / totals


def _ranking(
    true: np.ndarray, predicted: np.ndarray, names: np.ndarray, classes: Sequence[str]
) -> Iterator[AcceptanceCheck | SkippedTest]:
    ranked = np.flatnonzero(np.ptp(true, axis=0) >= bounds.SPEAKER_SHARE_WITHIN).tolist()
    if not ranked:
        yield SkippedTest(
            test=bounds.CORRECTNESS_SPEAKER_RANKING,
            reason=f"the speakers' true shares of each emotion differ by less than {bounds.SPEAKER_SHARE_WITHIN}, so "
            "they have no ranking",
        )
        return

    def rho(weights: np.ndarray) -> np.ndarray:
        drawn = _drawn(weights)
        return np.stack([_spearman(true[drawn, column], predicted[drawn, column]) for column in ranked], axis=1)

    yield from checks_of(
        bounds.CORRECTNESS_SPEAKER_RANKING,
        [f"rank correlation of the shares of {classes[column]}" for column in ranked],
        estimate_of(names, rho),
        bound=bounds.SPEAKER_RHO_ABOVE,
        kind="above",
        speakers=len(names),
    )


def _drawn(weights: np.ndarray) -> np.ndarray:
    """Return the drawn elements of each resample, int64 ``[resamples, elements]``, from the number of draws of each."""
    resamples, size = weights.shape
    return np.repeat(np.tile(np.arange(size), resamples), weights.astype(np.int64).ravel()).reshape(resamples, size)


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's rho of each row, ``[rows, elements]`` twice -> ``[rows]``; NaN where a row is constant."""
    ranks = [stats.rankdata(values, axis=1) for values in (first, second)]
    centred = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    spread = np.sqrt(np.prod([np.square(values).sum(axis=1) for values in centred], axis=0))
    product = (centred[0] * centred[1]).sum(axis=1)
    return np.divide(product, spread, out=np.full(len(spread), np.nan), where=spread > 0)
