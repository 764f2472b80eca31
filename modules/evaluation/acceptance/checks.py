"""Checks from estimates."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from modules.evaluation.intervals import Estimate, Predictions
from modules.reporting.summary import MIN_INTERVAL_SPEAKERS, AcceptanceCheck

Kind = Literal["above", "within"]

_DECIMALS = 9  # so that rounding errors of sums do not decide at a bound


def checks_of(
    test: str, names: Sequence[str], estimate: Estimate, *, bound: float, kind: Kind, speakers: int
) -> Iterator[AcceptanceCheck]:
    """Yield the check of each element of an estimate that is defined.

    Args:
        test: Name of the test.
        names: Name of each element.
        estimate: Scalar, or ``[names]``.
        bound: Bound of the values.
        kind: See :class:`modules.reporting.summary.AcceptanceCheck`.
        speakers: Number of speakers; with few, the interval is unknown.
    """
    known = speakers >= MIN_INTERVAL_SPEAKERS
    arrays = (np.atleast_1d(values).astype(float) for values in (estimate.value, estimate.low, estimate.high))
    for name, value, low, high in zip(names, *map(np.ndarray.tolist, arrays), strict=True):
        if np.isnan(value):
            continue
        value = round(value, _DECIMALS)
        yield AcceptanceCheck(
            test=test,
            name=name,
            value=value,
            low=low if known else None,
            high=high if known else None,
            bound=bound,
            kind=kind,
            passed=value > bound if kind == "above" else abs(value) < bound,
        )


def confusions(weights: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Return the confusion matrices of weighted clips, float64 ``[resamples, classes, classes]``.

    Args:
        weights: Number of draws of each clip, float64 ``[resamples, clips]``.
        predictions: Predictions of the clips.
    """
    classes = predictions.classes
    cells = np.zeros((len(predictions.labels), classes * classes))
    cells[np.arange(len(cells)), predictions.labels * classes + predictions.predicted] = 1
    return (weights @ cells).reshape(-1, classes, classes)


def among(
    predictions: Predictions, classes: Sequence[str], emotions: Iterable[str]
) -> tuple[Predictions, tuple[str, ...], np.ndarray]:
    """Return predictions among some emotions: clips of others are left out, and the rest of the probabilities scaled.

    Args:
        predictions: Predictions of all clips.
        classes: Names of their classes.
        emotions: Names of the emotions to keep, each one of the classes.

    Returns:
        The predictions, the names of their classes in the order of ``classes``, and the kept clips, bool ``[clips]``.
    """
    kept = [index for index, name in enumerate(classes) if name in set(emotions)]
    chosen = np.isin(predictions.labels, kept)
    rows = predictions.probabilities[chosen][:, kept]
    rows = np.maximum(rows, np.finfo(np.float64).tiny)  # a row of zeros has no largest class
    labels = np.searchsorted(kept, predictions.labels[chosen])
    scaled = Predictions.of(labels, rows / rows.sum(axis=1, keepdims=True), predictions.speakers[chosen].tolist())
    return scaled, tuple(classes[index] for index in kept), chosen
