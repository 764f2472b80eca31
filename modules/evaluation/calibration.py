"""Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017), shrunk towards 1 for few speakers.

The confidence of a model differs between speakers, so a temperature fitted to two of them does not generalise: it left
the six folds of RAVDESS less calibrated than no temperature (docs/benchmarks/results.md). A heavy-tailed prior shrinks
the fit towards 1: strongly where a few speakers suggest a small departure, hardly where the departure is large
(O'Hagan, On Outlier Rejection Phenomena in Bayes Inference, J. R. Statist. Soc. B 41, 1979).
"""

import numpy as np
from scipy import optimize

# Least probability: the logarithm of 0 is not finite.
SMALLEST_PROBABILITY = 1e-30

_TEMPERATURES = (0.05, 20.0)

# Spread of logarithms of temperatures: standard deviation between speakers, and scale of a Cauchy distribution between
# models. Measured over six folds of RAVDESS, with and without label smoothing.
_SPEAKER_DEVIATION = 0.45
_MODEL_SCALE = 0.25


def fit_temperature(probabilities: np.ndarray, class_ids: np.ndarray, speakers: np.ndarray) -> float:
    """Return the temperature of the maximum likelihood, shrunk towards 1 for few speakers.

    Args:
        probabilities: Predictions for clips that the model was not trained on, float ``[clips, classes]``.
        class_ids: True classes, int ``[clips]``.
        speakers: Names of the speakers, ``[clips]``.

    Returns:
        Temperature between 0.05 and 20; above 1 for an overconfident model.
    """
    rows = np.arange(len(class_ids))

    def negative_log_likelihood(log_temperature: float) -> float:
        return -float(np.mean(np.log(apply_temperature(probabilities, np.exp(log_temperature))[rows, class_ids])))

    fit = optimize.minimize_scalar(negative_log_likelihood, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(_shrunk(fit.x, len(np.unique(speakers)))))


def _shrunk(log_temperature: float, speakers: int) -> float:
    """Return the mode of a normal likelihood, of a fit to this number of speakers, times a Cauchy prior around 0."""
    tried = np.linspace(0, log_temperature, 1001)
    misfit = (tried - log_temperature) ** 2 * speakers / (2 * _SPEAKER_DEVIATION**2)
    return float(tried[np.argmin(misfit + np.log1p((tried / _MODEL_SCALE) ** 2))])


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return ``softmax(logits / temperature)`` for the probabilities ``softmax(logits)``.

    Args:
        probabilities: Float ``[..., classes]``.
        temperature: Above 0; above 1 lowers the confidence.

    Returns:
        float64 ``[..., classes]``.
    """
    scaled = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY)) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.maximum(powers / powers.sum(axis=-1, keepdims=True), SMALLEST_PROBABILITY)
