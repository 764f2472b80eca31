"""Clips that a model predicts wrongly, and those among them whose label may be the wrong one."""

from collections.abc import Callable, Sequence

import numpy as np

from modules.data import examples
from modules.reporting.summary import WrongPrediction

MOST = 50


def wrong_predictions(
    column: Callable[[str], Sequence[str]],
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    classes: Sequence[str],
    most: int = MOST,
) -> tuple[WrongPrediction, ...]:
    """Return the wrong predictions: clips with a suspect label first, then by their lead over the label's probability.

    Args:
        column: Function that returns a column of the examples as texts, by its name.
        labels: Indices into ``classes``, int ``[clips]``.
        probabilities: Predictions, float ``[clips, emotions]``; rows with non-finite values are left out.
        classes: Names of the emotions.
        most: Largest number of predictions to return.
    """
    predicted = np.argmax(probabilities, axis=1)
    suspect = suspect_labels(labels, probabilities)
    rows = np.arange(len(labels))
    lead = probabilities[rows, predicted] - probabilities[rows, labels]
    wrong = np.flatnonzero(np.isfinite(probabilities).all(axis=1) & (predicted != labels)).tolist()
    clip_ids, corpora, speakers = map(column, (examples.CLIP_ID, examples.CORPUS, examples.SPEAKER))
    return tuple(
        WrongPrediction(
            path=clip_ids[row].removeprefix(f"{corpora[row]}/"),
            speaker=speakers[row],
            emotion=classes[labels[row]],
            predicted=classes[predicted[row]],
            probability=float(probabilities[row, predicted[row]]),
            label_probability=float(probabilities[row, labels[row]]),
            check_label=bool(suspect[row]),
        )
        for row in sorted(wrong, key=lambda row: (not suspect[row], -lead[row], clip_ids[row]))[:most]
    )


def suspect_labels(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return which labels may be wrong, bool ``[clips]``, by confident learning (Northcutt et al. 2021, section 3.1).

    A label is suspect if another emotion has at least the mean probability that this emotion has in its own clips, and
    is the most probable of all such emotions. The clips must not be those that the model was trained on.

    Args:
        labels: Class of each clip, int ``[clips]``.
        probabilities: Predictions, float ``[clips, classes]``; clips with non-finite values are never suspect.
    """
    finite = np.isfinite(probabilities).all(axis=1)
    thresholds = np.full(probabilities.shape[1], np.inf)
    for emotion in np.unique(labels[finite]):
        thresholds[emotion] = probabilities[finite & (labels == emotion), emotion].mean()
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    return finite & (confident.max(axis=1) >= 0) & (np.argmax(confident, axis=1) != labels)
