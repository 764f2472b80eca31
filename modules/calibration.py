"""Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017)."""

import numpy as np
from scipy import optimize

# Below it a float32 probability is 0 for every purpose here, and its logarithm would not be finite.
SMALLEST_PROBABILITY = 1e-30

_TEMPERATURES = (0.05, 20.0)


def fit_temperature(probabilities: np.ndarray, class_ids: np.ndarray) -> float:
    """The temperature that makes the observed classes most likely.

    Args:
        probabilities: ``[clips, classes]`` of a model, of clips that it was not trained on.
        class_ids: ``[clips]`` integers.

    Returns:
        Above 1 for a model that is too sure, between 0.05 and 20 in any case.
    """
    rows = np.arange(len(class_ids))

    def negative_log_likelihood(log_temperature: float) -> float:
        return -float(np.mean(np.log(temper(probabilities, np.exp(log_temperature))[rows, class_ids])))

    found = optimize.minimize_scalar(negative_log_likelihood, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """``softmax(logits / temperature)`` from ``softmax(logits)``, float64 of the same shape."""
    scaled = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY)) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.maximum(powers / powers.sum(axis=-1, keepdims=True), SMALLEST_PROBABILITY)
