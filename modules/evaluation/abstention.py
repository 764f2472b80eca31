"""Abstention: a least confidence below which a model gives no emotion (selective classification).

The field calls the share of recordings with an answer the coverage, and the error rate of these answers the selective
risk (Geifman & El-Yaniv, Selective Classification for Deep Neural Networks, 2017).

Speakers differ in how well a model recognises them, more than their clips do: a threshold for the error rate of two
speakers is far too low for some others. So the rate on the clips at hand must be lower than the promised one, by a
margin for the spread of speakers (docs/benchmarks/results.md).
"""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

from modules.common.errors import SerError

# Standard deviation of the logits of speakers' error rates. The most likely one of a logit-normal distribution is 0.5
# to 0.9 on RAVDESS, with limits of 0.4 and 1.5. With this one nine of ten of its 24 speakers had their promise kept.
_SPEAKER_DEVIATION = 0.85
_SPEAKERS_KEPT = 0.9


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


def fit(probabilities: np.ndarray, class_ids: np.ndarray, speakers: np.ndarray, max_error: float) -> Operating:
    """Return the least confidence whose answers keep an error rate for nine of ten further speakers.

    With ``k`` errors in ``n`` answers the rate counts as ``(k + 1) / (n + 1)``, as in conformal risk control
    (Angelopoulos et al., 2024). It must be at most :func:`allowed_rate`.

    Args:
        probabilities: Calibrated predictions for clips that the model was not trained on, float ``[clips, classes]``.
        class_ids: True classes, int ``[clips]``.
        speakers: Names of the speakers, ``[clips]``.
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
    people = len(np.unique(speakers))
    allowed = allowed_rate(max_error, people)
    kept = np.flatnonzero((rates <= allowed) & together)
    if not len(kept):
        raise PromiseOutOfReach(
            f"training.max_error is {max_error}, for which eval may have a rate of {allowed:.4f}; the lowest of "
            f"its {len(ranked)} clips of {people} speakers is {rates[together].min():.4f}, counted with "
            "one more error. Allow a higher one, or give eval more speakers with splits.eval"
        )
    last = kept[-1]
    return Operating(float(ranked[last]), float(answers[last] / len(ranked)), float(errors[last] / answers[last]))


def allowed_rate(max_error: float, speakers: int) -> float:
    """Return the error rate on some speakers that keeps ``max_error`` for nine of ten further ones.

    The logits of speakers' rates are taken as normal. That of a further speaker differs from the mean of those at hand
    with a standard deviation of ``0.85 * sqrt(1 + 1 / speakers)``.

    Args:
        max_error: Promised error rate, between 0 and 1.
        speakers: Number of speakers at hand.
    """
    margin = stats.norm.ppf(_SPEAKERS_KEPT) * _SPEAKER_DEVIATION * np.sqrt(1 + 1 / speakers)
    return float(special.expit(special.logit(max_error) - margin))
