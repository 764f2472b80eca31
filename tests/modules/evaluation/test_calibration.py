import numpy as np
import pytest

from modules.evaluation.calibration import apply_temperature, fit_temperature

CLIPS = 4000


def overconfident(temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions of a model whose logits are ``temperature`` times too large, and true classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(CLIPS, 7))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = (true.cumsum(axis=1) > rng.uniform(size=(CLIPS, 1))).argmax(axis=1)
    return apply_temperature(true, 1 / temperature).astype(np.float32), classes


def of_speakers(count: int) -> np.ndarray:
    return np.array([f"speaker-{index % count}" for index in range(CLIPS)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_many_speakers_give_the_temperature(temperature):
    probabilities, classes = overconfident(temperature)
    assert fit_temperature(probabilities, classes, of_speakers(1000)) == pytest.approx(temperature, rel=0.05)


def test_fewer_speakers_shrink_a_small_departure_more():
    probabilities, classes = overconfident(1.3)
    temperatures = [fit_temperature(probabilities, classes, of_speakers(count)) for count in (1, 4, 16, 64)]
    assert temperatures == sorted(temperatures)
    assert 1 < temperatures[0] < 1.1
    assert temperatures[-1] == pytest.approx(1.3, rel=0.05)


def test_a_large_departure_is_not_shrunk():
    probabilities, classes = overconfident(4.0)
    assert fit_temperature(probabilities, classes, of_speakers(4)) == pytest.approx(4.0, rel=0.1)


def test_a_temperature_changes_no_decision():
    probabilities, _ = overconfident(3.0)
    probabilities[0] = [1, 0, 0, 0, 0, 0, 0]
    calmer = apply_temperature(probabilities, 3.0)
    np.testing.assert_allclose(calmer.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(calmer.argmax(axis=1), probabilities.argmax(axis=1))
    assert (calmer.max(axis=1)[1:] < probabilities.max(axis=1)[1:]).all()
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities, atol=1e-6)
