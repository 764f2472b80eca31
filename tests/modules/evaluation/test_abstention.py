"""A confidence below which a model gives no emotion."""

import numpy as np
import pytest

from modules.evaluation import abstention


def clips(right: str) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of two emotions with falling confidence and labels; ``x`` is an error."""
    confidence = np.linspace(0.99, 0.51, len(right))
    ids = np.array([mark == "x" for mark in right], np.int64)
    return np.stack([confidence, 1 - confidence], axis=1), ids


def test_the_largest_coverage_that_keeps_the_rate_is_chosen():
    probabilities, ids = clips("ooooooooo" + "x" + "oooooooooo" + "xxxxx")
    chosen = abstention.fit(probabilities, ids, 0.1)
    assert chosen.coverage == pytest.approx(20 / 25)
    assert chosen.error == pytest.approx(1 / 20)
    assert chosen.min_confidence == pytest.approx(probabilities[19, 0])


def test_one_more_error_is_counted():
    probabilities, ids = clips("o" * 9)
    assert abstention.fit(probabilities, ids, 0.1).coverage == 1
    with pytest.raises(abstention.PromiseOutOfReach, match=r"max_error is 0\.099.*9 clips.*0\.100") as caught:
        abstention.fit(probabilities, ids, 0.099)
    assert caught.value.code == "training.promise_out_of_reach"


def test_clips_of_equal_confidence_are_answered_together():
    probabilities = np.tile([0.8, 0.2], (20, 1))
    with pytest.raises(abstention.PromiseOutOfReach):
        abstention.fit(probabilities, np.array([0] * 10 + [1] * 10), 0.2)


def test_new_clips_keep_the_rate():
    """The promise holds on average over draws of clips, whatever the model's calibration."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(400):
        confidence = rng.uniform(0.5, 1, size=400)
        wrong = rng.uniform(size=400) > confidence
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        chosen = abstention.fit(probabilities[:120], wrong[:120].astype(np.int64), 0.2)
        answered = confidence[120:] >= chosen.min_confidence
        errors.append(wrong[120:][answered].mean())
    assert 0.12 < np.mean(errors) < 0.2
