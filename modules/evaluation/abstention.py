"""Abstention: a least confidence below which a model gives no emotion (selective classification).

The field calls the share of recordings with an answer the coverage, and the error rate of these answers the selective
risk (Geifman & El-Yaniv, Selective Classification for Deep Neural Networks, 2017).
"""

from typing import NamedTuple

import numpy as np

from modules.common.errors import SerError


class PromiseOutOfReach(SerError, ValueError):
    """No confidence keeps the promised error rate on the clips at hand."""

    code = "training.promise_out_of_reach"


class Operating(NamedTuple):
    """Answers of a model that abstains.

    Attributes:
        min_confidence: Confidence below which there is no answer.
        coverage: Share of the clips that have an answer.
        error: Error rate of these answers.
    """

    min_confidence: float
    coverage: float
    error: float


def fit(probabilities: np.ndarray, class_ids: np.ndarray, max_error: float) -> Operating:
    """Return the least confidence whose answers keep an error rate.

    With ``k`` errors in ``n`` answers the rate counts as ``(k + 1) / (n + 1)``, as in conformal risk control
    (Angelopoulos et al., 2024): one more error is expected of the next clip than of those at hand.

    Args:
        probabilities: Calibrated predictions for clips that the model was not trained on, float ``[clips, classes]``.
        class_ids: True classes, int ``[clips]``.
        max_error: Promised error rate, between 0 and 1.

    Returns:
        The confidence, with coverage and error rate on these clips.

    Raises:
        PromiseOutOfReach: The rate is lower than the clips can show or the model reaches.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    answers = np.arange(1, len(ranked) + 1)
    errors = np.cumsum(probabilities.argmax(axis=1)[order] != class_ids[order])
    rates = (errors + 1) / (answers + 1)
    # Clips of equal confidence are answered together.
    together = np.append(ranked[1:] < ranked[:-1], True)
    kept = np.flatnonzero((rates <= max_error) & together)
    if not len(kept):
        raise PromiseOutOfReach(
            f"training.max_error is {max_error}, and no confidence keeps it on the {len(ranked)} clips of eval: the "
            f"lowest rate is {rates[together].min():.3f}, counted with one more error. Allow that, or give eval more "
            "speakers with splits.eval"
        )
    last = kept[-1]
    return Operating(float(ranked[last]), float(answers[last] / len(ranked)), float(errors[last] / answers[last]))
