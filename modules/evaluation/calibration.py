"""Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017), with caution where voices are few.

A model is sure of some voices and unsure of others, so the temperature that suits two of them says little about the
next: fitted to two, it made the six folds of RAVDESS less calibrated than no temperature at all (docs/results.md).
So the fit is weighed against what is usual, 1, by a prior with heavy tails: a small departure that a few speakers
suggest is mostly doubted, a large one that they leave no doubt about is believed (O'Hagan, On Outlier Rejection
Phenomena in Bayes Inference, J. R. Statist. Soc. B 41, 1979).
"""

import numpy as np
from scipy import optimize

# Below it a float32 probability is 0 for every purpose here, and its logarithm would not be finite.
SMALLEST_PROBABILITY = 1e-30

_TEMPERATURES = (0.05, 20.0)

# Of logarithms of temperatures: how far those of single speakers lie from each other (standard deviation), and those of
# models from 1 (scale of a Cauchy distribution). Seen over six folds of RAVDESS, with label smoothing and without.
_SPEAKER_DEVIATION = 0.45
_USUAL_SCALE = 0.25


def fit_temperature(probabilities: np.ndarray, class_ids: np.ndarray, speakers: np.ndarray) -> float:
    """The temperature that makes the observed classes most likely, drawn towards 1 where there are few speakers.

    Args:
        probabilities: ``[clips, classes]`` of a model, of clips that it was not trained on.
        class_ids: ``[clips]`` integers.
        speakers: ``[clips]`` names.

    Returns:
        Above 1 for a model that is too sure, between 0.05 and 20 in any case.
    """
    rows = np.arange(len(class_ids))

    def negative_log_likelihood(log_temperature: float) -> float:
        return -float(np.mean(np.log(temper(probabilities, np.exp(log_temperature))[rows, class_ids])))

    found = optimize.minimize_scalar(negative_log_likelihood, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(_credible(found.x, len(np.unique(speakers)))))


def _credible(log_temperature: float, speakers: int) -> float:
    """The likeliest after a fit to so many speakers: mode of a normal likelihood times a Cauchy prior around 0."""
    tried = np.linspace(0, log_temperature, 1001)
    misfit = (tried - log_temperature) ** 2 * speakers / (2 * _SPEAKER_DEVIATION**2)
    return float(tried[np.argmin(misfit + np.log1p((tried / _USUAL_SCALE) ** 2))])


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """``softmax(logits / temperature)`` from ``softmax(logits)``, float64 of the same shape."""
    scaled = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY)) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.maximum(powers / powers.sum(axis=-1, keepdims=True), SMALLEST_PROBABILITY)
