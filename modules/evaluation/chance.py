"""Test whether predictions depend on the emotions at all, or only guess."""

import numpy as np

from modules.evaluation.intervals import Predictions, rows_by_value

PERMUTATIONS = 999
"""Permutations of the test; the least p-value is one over their number plus one."""

_VALUES_AT_ONCE = 10_000_000


def p_value(predictions: Predictions, *, permutations: int = PERMUTATIONS, seed: int = 0) -> float | None:
    """Return the share of permutations whose UAR is at least that of the predictions.

    Predictions are permuted among the clips of each speaker. For a model that guesses, whatever it guesses and however
    few speakers there are, the share lies below any level with at most the probability of that level: the permutation
    test of Ojala and Garriga, Permutation Tests for Studying Classifier Performance (2010).

    Args:
        predictions: Labels, probabilities and speakers of the clips.
        permutations: Number of permutations.
        seed: Seed of the permutations.

    Returns:
        The p-value, from 1 / (permutations + 1) to 1; None if each speaker has clips of one emotion alone, so that
        permutations change nothing.
    """
    labels, predicted = predictions.labels, predictions.predicted.astype(np.int16)
    counts = np.bincount(labels)
    weights = 1 / (counts[labels] * np.count_nonzero(counts))  # of a correct clip in the UAR
    speakers = [rows for _, rows in rows_by_value(predictions.speakers)]
    if all(len(np.unique(labels[rows])) == 1 for rows in speakers):
        return None
    random = np.random.default_rng(seed)
    permuted = sum(
        _permuted_uars(labels[rows], predicted[rows], weights[rows], permutations, random) for rows in speakers
    )
    at_least = np.count_nonzero(permuted >= weights @ (predicted == labels) - 1e-9)
    return (1 + at_least) / (permutations + 1)


def _permuted_uars(
    labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, permutations: int, random: np.random.Generator
) -> np.ndarray:
    """Return the part of one speaker in the UAR of each permutation, float ``[permutations]``."""
    at_once = max(1, _VALUES_AT_ONCE // len(labels))
    parts = []
    for start in range(0, permutations, at_once):
        copies = np.tile(predicted, (min(at_once, permutations - start), 1))
        parts.append((random.permuted(copies, axis=1) == labels) @ weights)
    return np.concatenate(parts)
