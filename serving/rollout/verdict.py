"""Decision about a canary: checks and an outcome from the observations of both versions.

Pure functions. Each check compares a number with its bound, as in the gate. But here the sample may be too small. So a
check fails when even the lower end of the number's interval lies above the bound, passes when the number keeps the
bound, and is undecided in between, or where there are too few observations.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from scipy import special

from modules.drift.statistics import jensen_shannon
from serving.rollout.settings import WatchSettings

Outcome = Literal["promote", "roll back", "undecided"]

CONFIDENCE = 0.95
"""Two-sided confidence of the intervals."""

EARLY_CONFIDENCE = 0.999
"""Confidence of the interval of the error rate during the watch; higher, because it is tested repeatedly."""

STABLE_REQUESTS, CANARY_REQUESTS = "watch.stable_requests", "watch.canary_requests"
ERROR_RATE = "watch.error_rate"
MEDIAN_LATENCY, TAIL_LATENCY = "watch.median_latency", "watch.tail_latency"
PROBABILITIES_DRIFT, EMOTIONS_DRIFT = "watch.probabilities_drift", "watch.emotions_drift"

_NAMES = {
    STABLE_REQUESTS: "Requests that the stable version answered",
    CANARY_REQUESTS: "Requests sent to the canary",
    ERROR_RATE: "Error rate",
    MEDIAN_LATENCY: "Median latency",
    TAIL_LATENCY: "99th percentile of latency",
    PROBABILITIES_DRIFT: "Drift of probabilities",
    EMOTIONS_DRIFT: "Drift of emotions",
}
_TAIL_REQUESTS = 500
"""Fewest requests for the 99th percentile; with fewer, it is nearly the largest value."""

_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """Observations of one version since the watch began.

    Attributes:
        requests: Number of requests sent to it.
        errors: Number of requests without an answer, or with non-finite values.
        latencies_sec: Latency of each answer, in seconds.
        probabilities: Probability by recording and emotion; empty where only counts and latencies are available.
    """

    requests: int = 0
    errors: int = 0
    latencies_sec: tuple[float, ...] = ()
    probabilities: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Number of requests with an answer."""
        return self.requests - self.errors

    @property
    def error_rate(self) -> float:
        """Share of the requests that failed; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One condition, in numbers and words; ``passed`` is ``None`` while it is undecided."""

    code: str
    value: float | None
    bound: float
    passed: bool | None
    text: str

    @property
    def name(self) -> str:
        """Name in tables and texts."""
        return _NAMES[self.code]

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON values."""
        return {"name": self.name} | dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Outcome for the canary, and the checks behind it."""

    outcome: Outcome
    checks: tuple[Check, ...]


def decide(stable: Observed, canary: Observed, settings: WatchSettings) -> Verdict:
    """Return ``roll back`` if a check fails, ``promote`` if all pass, and ``undecided`` otherwise.

    Args:
        stable: Observations of the stable version.
        canary: Observations of the canary.
        settings: Bounds of the checks.
    """
    checks = tuple(_checks(stable, canary, settings))
    results = [check.passed for check in checks]
    outcome: Outcome = "roll back" if False in results else "undecided" if None in results else "promote"
    return Verdict(outcome=outcome, checks=checks)


def fails_early(stable: Observed, canary: Observed, settings: WatchSettings) -> bool:
    """Return whether the canary fails too often to continue the watch.

    Args:
        stable: Observations of the stable version.
        canary: Observations of the canary.
        settings: Bounds of the checks.
    """
    bound = stable.error_rate + settings.max_error_rate
    return _error_rate_low(canary, EARLY_CONFIDENCE) > bound


def _checks(stable: Observed, canary: Observed, settings: WatchSettings) -> Iterator[Check]:
    required = settings.min_requests
    yield _count_check(STABLE_REQUESTS, stable.answered, required)
    yield _count_check(CANARY_REQUESTS, canary.requests, required)
    yield _error_check(stable, canary, settings.max_error_rate)
    enough = min(stable.answered, canary.answered) >= required
    yield _latency_check(MEDIAN_LATENCY, 0.5, stable, canary, settings, enough=enough)
    if min(stable.answered, canary.answered) >= _TAIL_REQUESTS:
        yield _latency_check(TAIL_LATENCY, 0.99, stable, canary, settings, enough=enough)
    yield from _drift_checks(stable, canary, settings, enough=enough)


def _count_check(code: str, count: int, required: int) -> Check:
    text = f"{_NAMES[code]}: {count}; {required} are needed."
    return Check(code=code, value=count, bound=required, passed=True if count >= required else None, text=text)


def _error_check(stable: Observed, canary: Observed, margin: float) -> Check:
    bound = stable.error_rate + margin
    value = canary.error_rate if canary.requests else None
    text = (
        f"{canary.errors} of {canary.requests} requests to the canary failed, {stable.errors} of {stable.requests} to "
        f"the stable version; at most {bound:.1%} may."
    )
    return _bounded(ERROR_RATE, value, _error_rate_low(canary, CONFIDENCE), bound, text)


def _error_rate_low(observed: Observed, confidence: float) -> float:
    """Return the lower end of the exact interval (Clopper & Pearson 1934), a quantile of a beta distribution."""
    if not observed.errors:
        return 0.0
    return float(special.betaincinv(observed.errors, observed.answered + 1, (1 - confidence) / 2))


def _latency_check(
    code: str, quantile: float, stable: Observed, canary: Observed, settings: WatchSettings, *, enough: bool
) -> Check:
    bound = settings.max_latency_ratio
    if not enough:
        return _too_few(code, bound)
    times_sec = np.array(stable.latencies_sec), np.array(canary.latencies_sec)
    before_sec, now_sec = (float(np.quantile(times, quantile)) for times in times_sec)
    value = now_sec / before_sec if before_sec > 0 else math.inf

    def resampled(rng: np.random.Generator) -> float:
        first, second = (np.quantile(rng.choice(times, len(times)), quantile) for times in times_sec)
        return float(second / first) if first > 0 else math.inf

    text = (
        f"{_NAMES[code]}: {now_sec * 1000:.1f} ms, {value:.2f} times the stable version's {before_sec * 1000:.1f} ms; "
        f"at most {bound:g} times are allowed."
    )
    return _bounded(code, value, _bootstrap_low(resampled), bound, text)


def _drift_checks(stable: Observed, canary: Observed, settings: WatchSettings, *, enough: bool) -> Iterator[Check]:
    both = sorted(set(stable.probabilities) & set(canary.probabilities))
    bound = settings.max_prediction_drift
    if not enough or len(both) < settings.min_recordings:
        reason = f"{len(both)} recordings were answered by both; {settings.min_recordings} are needed."
        for code in (PROBABILITIES_DRIFT, EMOTIONS_DRIFT):
            yield _too_few(code, bound, reason if enough else "")
        return
    first, second = _matrices(stable.probabilities, canary.probabilities, both)
    yield _mean_drift_check(first, second, bound)
    yield _emotion_drift_check(first, second, bound)


def _mean_drift_check(first: np.ndarray, second: np.ndarray, bound: float) -> Check:
    """Return the check of the mean divergence of both versions' probabilities over the recordings.

    Args:
        first: Probabilities of the stable version, of shape ``[recordings, emotions]``.
        second: Probabilities of the canary, of the same shape.
        bound: Largest divergence, 0 to 1.
    """
    drifts = jensen_shannon(first, second)
    value = float(drifts.mean())
    low = _bootstrap_low(lambda rng: float(rng.choice(drifts, len(drifts)).mean()))
    name = _NAMES[PROBABILITIES_DRIFT]
    text = f"{name}: {value:.3f} on average of {len(drifts)} recordings; at most {bound:g} is allowed."
    return _bounded(PROBABILITIES_DRIFT, value, low, bound, text)


def _emotion_drift_check(first: np.ndarray, second: np.ndarray, bound: float) -> Check:
    """Return the check of the frequencies of the emotions, which detects a model that always predicts one."""
    one_hot = [np.eye(first.shape[1])[np.argmax(rows, axis=1)] for rows in (first, second)]

    def drift(rows: np.ndarray) -> float:
        return float(jensen_shannon(one_hot[0][rows].mean(axis=0), one_hot[1][rows].mean(axis=0)))

    every = np.arange(len(first))
    value = drift(every)
    low = _bootstrap_low(lambda rng: drift(rng.choice(every, len(every))))
    name = _NAMES[EMOTIONS_DRIFT]
    text = f"{name}: {value:.3f} between the frequencies of the emotions; at most {bound:g} is allowed."
    return _bounded(EMOTIONS_DRIFT, value, low, bound, text)


def _matrices(
    stable: Mapping[str, Mapping[str, float]], canary: Mapping[str, Mapping[str, float]], recordings: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of both, of shape ``[recordings, emotions]``, with the emotions of either."""
    emotions = sorted({emotion for answers in (stable, canary) for row in answers.values() for emotion in row})
    first, second = (
        np.array([[answers[recording].get(emotion, 0.0) for emotion in emotions] for recording in recordings])
        for answers in (stable, canary)
    )
    return first, second


def _bootstrap_low(statistic: Callable[[np.random.Generator], float]) -> float:
    """Return the lower end of the percentile interval (Efron & Tibshirani 1993, section 13.3), with a fixed seed."""
    rng = np.random.default_rng(0)
    values = [statistic(rng) for _ in range(_RESAMPLES)]
    return float(np.quantile(values, (1 - CONFIDENCE) / 2, method="lower"))


def _bounded(code: str, value: float | None, low: float, bound: float, text: str) -> Check:
    if low > bound:
        return Check(code=code, value=value, bound=bound, passed=False, text=text)
    kept = value is not None and value <= bound
    if not kept:
        text += " The difference may be due to chance."
    return Check(code=code, value=value, bound=bound, passed=True if kept else None, text=text)


def _too_few(code: str, bound: float, reason: str = "") -> Check:
    text = f"{_NAMES[code]}: {reason or 'too few requests were answered.'}"
    return Check(code=code, value=None, bound=bound, passed=None, text=text)
