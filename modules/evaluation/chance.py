"""Test whether predictions depend on the emotions at all, or only guess."""

import numpy as np

from modules.evaluation.intervals import Predictions

PERMUTATIONS = 999
"""Permutations of the test; the least p-value is one over their number plus one."""


def p_value(predictions: Predictions, *, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """Return the share of permutations whose UAR is at least that of the predictions.

    Predictions are permuted among the clips of each speaker. For a model that guesses, whatever it guesses and however
    few speakers there are, the share lies below any level with at most the probability of that level: the permutation
    test of Ojala and Garriga, Permutation Tests for Studying Classifier Performance (2010).

    Args:
        predictions: Labels, probabilities and speakers of the clips.
        permutations: Number of permutations.
        seed: Seed of the permutations.

    Returns:
        The p-value, from 1 / (permutations + 1) to 1.
    """
    labels, predicted = predictions.labels, predictions.predicted
    counts = np.bincount(labels)
    weights = 1 / (counts[labels] * np.count_nonzero(counts))  # of a correct clip in the UAR
    observed = float(weights @ (predicted == labels))
    random = np.random.default_rng(seed)
    permuted = np.zeros(permutations)
    for speaker in np.unique(predictions.speakers):
        rows = np.flatnonzero(predictions.speakers == speaker)
        shuffled = random.permuted(np.tile(predicted[rows], (permutations, 1)), axis=1)
        permuted += (shuffled == labels[rows]) @ weights[rows]
    at_least = np.count_nonzero(permuted >= observed - 1e-9)
    return (1 + at_least) / (permutations + 1)
