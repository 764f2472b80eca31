"""What becomes of a canary, from what was observed."""

import numpy as np
import pytest
import scipy.stats
from pydantic import ValidationError

from modules.data.labels import EMOTIONS
from modules.drift.statistics import jensen_shannon
from serving.rollout.settings import WatchSettings
from serving.rollout.verdict import Observed, is_hopeless, judge

SETTINGS = WatchSettings()
RECORDINGS = [f"{number}.wav" for number in range(50)]


def answers(seed=0, emotion=None, noise=0.0):
    """A distribution for each recording; of ``emotion`` alone, or another for each."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(len(EMOTIONS), 0.3), len(RECORDINGS))
    if emotion is not None:
        rows = np.eye(len(EMOTIONS))[[emotion] * len(RECORDINGS)]
    rows = rows * np.exp(noise * np.random.default_rng(9).normal(size=rows.shape)) + 1e-9
    rows /= rows.sum(axis=1, keepdims=True)
    return {name: dict(zip(EMOTIONS, row, strict=True)) for name, row in zip(RECORDINGS, rows, strict=True)}


def observed(requests=600, errors=0, *, factor=1.0, seed=0, probabilities=None):
    rng = np.random.default_rng(seed)
    latencies = tuple(factor * rng.lognormal(-3, 0.3, requests - errors))
    return Observed(
        requests=requests,
        errors=errors,
        latencies_sec=latencies,
        probabilities=answers() if probabilities is None else probabilities,
    )


def result(verdict, name):
    return next(check.passed for check in verdict.checks if check.name == name)


def test_a_canary_like_the_stable_version_is_promoted():
    verdict = judge(observed(seed=1), observed(seed=2, probabilities=answers(noise=0.5)), SETTINGS)
    assert verdict.outcome == "promote"
    assert len(verdict.checks) == 7
    assert all(check.passed for check in verdict.checks)


@pytest.mark.parametrize(
    ("canary", "failed"),
    [
        (observed(errors=60), "Error rate"),
        (observed(factor=2.0, seed=3), "Median latency"),
        (observed(factor=2.0, seed=3), "99th percentile of latency"),
        (observed(probabilities=answers(seed=5)), "Drift of probabilities"),
        (observed(probabilities=answers(emotion=2)), "Drift of emotions"),
    ],
)
def test_what_rolls_a_canary_back(canary, failed):
    verdict = judge(observed(seed=1), canary, SETTINGS)
    assert verdict.outcome == "roll back"
    assert result(verdict, failed) is False


def test_a_slow_tail_is_seen_where_the_median_is_not():
    slow = observed(seed=2)
    tail = tuple(sorted(slow.latencies_sec)[:-30]) + (2.0,) * 30
    verdict = judge(observed(seed=1), Observed(**{**vars(slow), "latencies_sec": tail}), SETTINGS)
    assert result(verdict, "Median latency") is True
    assert result(verdict, "99th percentile of latency") is False


@pytest.mark.parametrize(
    ("stable", "canary", "undecided"),
    [
        (observed(99), observed(), "Requests that the stable version answered"),
        (observed(600, 600), observed(600, 600, seed=2), "Requests that the stable version answered"),
        (observed(), observed(20, seed=2), "Requests sent to the canary"),
        (observed(), Observed(), "Error rate"),
        (observed(100), observed(100, 3, seed=2), "Error rate"),
        (observed(), observed(factor=1.53), "Median latency"),
        (observed(), observed(probabilities={}), "Drift of probabilities"),
    ],
)
def test_what_nothing_can_be_concluded_from(stable, canary, undecided):
    verdict = judge(stable, canary, SETTINGS)
    assert verdict.outcome == "undecided"
    assert result(verdict, undecided) is None


def test_errors_that_both_have_are_not_the_canarys():
    assert judge(observed(errors=60), observed(errors=60, seed=2), SETTINGS).outcome == "promote"


def test_few_requests_suffice_to_see_that_nothing_works():
    assert not is_hopeless(observed(3), observed(1, 1), SETTINGS)
    assert is_hopeless(observed(3), observed(3, 3), SETTINGS)
    assert judge(observed(3), observed(3, 3), SETTINGS).outcome == "roll back"


def test_the_early_end_hardly_ever_hits_a_canary_that_keeps_the_bound():
    """Looked at after every one of 600 requests, with as many failures as are allowed."""
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(200):
        failures = np.cumsum(rng.random(600) < SETTINGS.max_error_rate)
        looks = [(requests, int(failures[requests - 1])) for requests in range(1, 601, 5)]
        ended += any(
            is_hopeless(Observed(requests=600), Observed(requests=requests, errors=errors), SETTINGS)
            for requests, errors in looks
        )
    assert ended <= 2  # 1 %


@pytest.mark.parametrize(("errors", "requests"), [(0, 10), (1, 50), (7, 100), (5, 5)])
def test_the_error_rate_fails_where_its_exact_interval_lies_above_the_bound(errors, requests):
    low = scipy.stats.binomtest(errors, requests).proportion_ci(0.95, method="exact").low
    for bound, passed in ((low + 1e-6, True), (low - 1e-6, False)):
        if 0 <= bound <= 1:
            settings = WatchSettings(max_error_rate=bound)
            verdict = judge(observed(), observed(requests, errors), settings)
            assert (result(verdict, "Error rate") is not False) == passed


def test_the_divergence_is_known_at_its_ends():
    ends = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert jensen_shannon(ends, ends) == pytest.approx([0, 0])
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)


@pytest.mark.parametrize("setting", [{"min_requests": 0}, {"max_error_rate": 2}, {"max_latency_ratio": 0}])
def test_settings_that_cannot_be(setting):
    with pytest.raises(ValidationError) as error:
        WatchSettings(**setting)
    assert [problem["loc"] for problem in error.value.errors()] == [tuple(setting)]
