"""Decision about a canary from observations of both versions."""

import numpy as np
import pytest
import scipy.stats
from pydantic import ValidationError

from modules.data.labels import EMOTIONS
from modules.drift.statistics import jensen_shannon
from serving.rollout.settings import WatchSettings
from serving.rollout.verdict import (
    CANARY_REQUESTS,
    EMOTIONS_DRIFT,
    ERROR_RATE,
    MEDIAN_LATENCY,
    PROBABILITIES_DRIFT,
    STABLE_REQUESTS,
    TAIL_LATENCY,
    Observed,
    decide,
    fails_early,
)

SETTINGS = WatchSettings()
RECORDINGS = [f"{number}.wav" for number in range(50)]


def answers(seed=0, emotion=None, noise=0.0):
    """Return probabilities for each recording; with ``emotion``, all of that one."""
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


def result(verdict, code):
    return next(check.passed for check in verdict.checks if check.code == code)


def test_a_canary_like_the_stable_version_is_promoted():
    verdict = decide(observed(seed=1), observed(seed=2, probabilities=answers(noise=0.5)), SETTINGS)
    assert verdict.outcome == "promote"
    assert len(verdict.checks) == 7
    assert all(check.passed for check in verdict.checks)


@pytest.mark.parametrize(
    ("canary", "failed"),
    [
        (observed(errors=60), ERROR_RATE),
        (observed(factor=2.0, seed=3), MEDIAN_LATENCY),
        (observed(factor=2.0, seed=3), TAIL_LATENCY),
        (observed(probabilities=answers(seed=5)), PROBABILITIES_DRIFT),
        (observed(probabilities=answers(emotion=2)), EMOTIONS_DRIFT),
    ],
)
def test_a_worse_canary_is_rolled_back(canary, failed):
    verdict = decide(observed(seed=1), canary, SETTINGS)
    assert verdict.outcome == "roll back"
    assert result(verdict, failed) is False


def test_a_slow_tail_fails_with_a_good_median():
    slow = observed(seed=2)
    tail = tuple(sorted(slow.latencies_sec)[:-30]) + (2.0,) * 30
    verdict = decide(observed(seed=1), Observed(**{**vars(slow), "latencies_sec": tail}), SETTINGS)
    assert result(verdict, MEDIAN_LATENCY) is True
    assert result(verdict, TAIL_LATENCY) is False


@pytest.mark.parametrize(
    ("stable", "canary", "undecided"),
    [
        (observed(99), observed(), STABLE_REQUESTS),
        (observed(600, 600), observed(600, 600, seed=2), STABLE_REQUESTS),
        (observed(), observed(20, seed=2), CANARY_REQUESTS),
        (observed(), Observed(), ERROR_RATE),
        (observed(100), observed(100, 3, seed=2), ERROR_RATE),
        (observed(), observed(factor=1.53), MEDIAN_LATENCY),
        (observed(), observed(probabilities={}), PROBABILITIES_DRIFT),
    ],
)
def test_too_few_observations_are_undecided(stable, canary, undecided):
    verdict = decide(stable, canary, SETTINGS)
    assert verdict.outcome == "undecided"
    assert result(verdict, undecided) is None


def test_equal_error_rates_promote():
    assert decide(observed(errors=60), observed(errors=60, seed=2), SETTINGS).outcome == "promote"


def test_few_failures_end_the_watch_early():
    assert not fails_early(observed(3), observed(1, 1), SETTINGS)
    assert fails_early(observed(3), observed(3, 3), SETTINGS)
    assert decide(observed(3), observed(3, 3), SETTINGS).outcome == "roll back"


def test_the_early_end_rarely_stops_an_allowed_error_rate():
    """Checked repeatedly during 600 requests with the largest allowed error rate."""
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(200):
        failures = np.cumsum(rng.random(600) < SETTINGS.max_error_rate)
        checks = [(requests, int(failures[requests - 1])) for requests in range(1, 601, 5)]
        ended += any(
            fails_early(Observed(requests=600), Observed(requests=requests, errors=errors), SETTINGS)
            for requests, errors in checks
        )
    assert ended <= 2  # 1 %


@pytest.mark.parametrize(("errors", "requests"), [(0, 10), (1, 50), (7, 100), (5, 5)])
def test_the_error_rate_uses_the_exact_interval(errors, requests):
    low = scipy.stats.binomtest(errors, requests).proportion_ci(0.95, method="exact").low
    for bound, passed in ((low + 1e-6, True), (low - 1e-6, False)):
        if 0 <= bound <= 1:
            settings = WatchSettings(max_error_rate=bound)
            verdict = decide(observed(), observed(requests, errors), settings)
            assert (result(verdict, ERROR_RATE) is not False) == passed


def test_the_divergence_is_0_to_1():
    ends = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert jensen_shannon(ends, ends) == pytest.approx([0, 0])
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)


@pytest.mark.parametrize("setting", [{"min_requests": 0}, {"max_error_rate": 2}, {"max_latency_ratio": 0}])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValidationError) as error:
        WatchSettings(**setting)
    assert [problem["loc"] for problem in error.value.errors()] == [tuple(setting)]
