"""A confidence below which a model gives no emotion."""

import numpy as np
import pytest

from modules.evaluation import abstention


def clips(right: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities of two emotions with falling confidence, labels and speakers; ``x`` is an error."""
    confidence = np.linspace(0.99, 0.51, len(right))
    ids = np.array([mark == "x" for mark in right], np.int64)
    return np.stack([confidence, 1 - confidence], axis=1), ids, np.arange(len(right)) % 4


def test_the_largest_coverage_that_keeps_the_rate_is_chosen():
    probabilities, ids, speakers = clips("o" * 24 + "x" + "o" * 15 + "xxxxx")
    assert abstention.allowed_rate(0.15, 4) == pytest.approx(0.0496, abs=1e-3)
    chosen = abstention.fit(probabilities, ids, speakers, 0.15)
    assert chosen.coverage == pytest.approx(40 / 45)
    assert chosen.error == pytest.approx(1 / 40)
    assert chosen.min_confidence == pytest.approx(probabilities[39, 0])


def test_one_more_error_is_counted():
    probabilities, ids, speakers = clips("o" * 9)
    assert abstention.fit(probabilities, ids, speakers, 0.3).coverage == 1
    with pytest.raises(
        abstention.PromiseOutOfReach, match=r"max_error is 0\.2,.*9 clips.*4 speakers.*0\.1000"
    ) as caught:
        abstention.fit(probabilities, ids, speakers, 0.2)
    assert caught.value.code == "training.promise_out_of_reach"


def test_clips_of_equal_confidence_are_answered_together():
    probabilities = np.tile([0.8, 0.2], (20, 1))
    with pytest.raises(abstention.PromiseOutOfReach):
        abstention.fit(probabilities, np.array([0] * 10 + [1] * 10), np.arange(20), 0.5)


def test_more_speakers_need_a_smaller_margin():
    rates = [abstention.allowed_rate(0.2, speakers) for speakers in (1, 2, 4, 24, 1000)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(0.0508, abs=1e-3)
    assert rates[-1] < 0.2


def test_nine_of_ten_further_speakers_keep_the_rate():
    """Speakers of the assumed spread, whatever the calibration of the model: the threshold of some holds for others."""
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(300):
        shift = np.repeat(rng.normal(0, 0.85, size=5), 400)
        logit = rng.normal(2, 1.5, size=2000)
        confidence = 0.5 + 0.5 / (1 + np.exp(-logit))
        wrong = rng.uniform(size=2000) > 1 / (1 + np.exp(-logit - shift))
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        known, speakers = slice(0, 1600), np.repeat(np.arange(5), 400)
        chosen = abstention.fit(probabilities[known], wrong[known].astype(np.int64), speakers[known], 0.2)
        answered = confidence[1600:] >= chosen.min_confidence
        kept.append(wrong[1600:][answered].mean() <= 0.2)
    assert 0.86 < np.mean(kept) < 0.97
