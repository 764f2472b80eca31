"""Watch of a canary and of the stable version for a set time, which ends with a promotion, a rollback or neither.

The numbers come from an :class:`Observations`: :class:`Probes` sends requests to both versions by label, and
:class:`SharedProbes` to a target that chooses the version itself.
"""

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from serving.client import AudioError, Client, Prediction, RequestFailed, UnexpectedAnswer
from serving.rollout.settings import WatchSettings
from serving.rollout.state import CanaryMissing, RolloutError, RolloutState, Target
from serving.rollout.verdict import Observed, Verdict, decide, fails_early

_DONE = {"promote": "promoted", "roll back": "rolled back", "undecided": "undecided"}

Progress = Callable[[Observed, Observed], None]


class Observations(Protocol):
    """Source of observations of the stable version and of the canary.

    Attributes:
        min_rounds: Smallest number of calls of :meth:`observe`, however short the watch.
    """

    min_rounds: int

    def observe(self) -> tuple[Observed, Observed]:
        """Make one observation; return all since the watch began, of stable version and canary."""


@dataclasses.dataclass
class _Tally:
    """Counters of the answers of one version."""

    requests: int = 0
    errors: int = 0
    latencies_sec: list[float] = dataclasses.field(default_factory=list)
    probabilities: dict[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def count(self, recording: str, answer: Prediction | None, latency_sec: float) -> None:
        self.requests += 1
        if answer is None:
            self.errors += 1
        else:
            self.latencies_sec.append(latency_sec)
            self.probabilities[recording] = answer.probabilities

    def observed(self) -> Observed:
        return Observed(
            requests=self.requests,
            errors=self.errors,
            latencies_sec=tuple(self.latencies_sec),
            probabilities=dict(self.probabilities),
        )


class Probes:
    """Requests to both versions with the same recording at each :meth:`observe`, in turn through all recordings.

    The first version of a round alternates, so that neither has the advantage of a warmer machine.

    Args:
        stable: Client of the stable version.
        canary: Client of the canary.
        wavs: Encoded WAV files by name; at least one.
    """

    def __init__(self, stable: Client, canary: Client, wavs: Mapping[str, bytes]) -> None:
        if not wavs:
            raise ValueError("wavs is empty; give at least one recording")
        self.min_rounds = len(wavs)
        self._clients = stable, canary
        self._wavs = list(wavs.items())
        self._tallies = _Tally(), _Tally()
        self._rounds = 0

    def observe(self) -> tuple[Observed, Observed]:
        """See :meth:`Observations.observe`."""
        recording, wav = self._wavs[self._rounds % len(self._wavs)]
        pairs = list(zip(self._tallies, self._clients, strict=True))
        # By pass and recording: each version is first for each recording, also with an even number of recordings.
        first = (self._rounds + self._rounds // len(self._wavs)) % 2
        for tally, client in (pairs[first], pairs[1 - first]):
            with contextlib.suppress(AudioError):  # an unusable recording counts for neither version
                tally.count(recording, *_send(client, wav))
        self._rounds += 1
        stable, canary = self._tallies
        return stable.observed(), canary.observed()


class SharedProbes:
    """Requests to a target that splits the traffic itself, such as a Vertex AI endpoint; each answer names its version.

    A failed request does not name a version. It counts against the canary: a stable version that fails too makes a
    rollback more likely, never a promotion.

    Args:
        client: Client without a choice of version; over gRPC, because REST does not return the version.
        stable: The stable version.
        canary: The canary's version.
        wavs: Encoded WAV files by name; at least one.
    """

    def __init__(self, client: Client, stable: str, canary: str, wavs: Mapping[str, bytes]) -> None:
        if not wavs:
            raise ValueError("wavs is empty; give at least one recording")
        self.min_rounds = len(wavs)
        self._client = client
        self._canary = canary
        self._wavs = list(wavs.items())
        self._tallies = {stable: _Tally(), canary: _Tally()}
        self._stable = stable
        self._rounds = 0

    def observe(self) -> tuple[Observed, Observed]:
        """See :meth:`Observations.observe`."""
        recording, wav = self._wavs[self._rounds % len(self._wavs)]
        self._rounds += 1
        try:
            answer, latency_sec = _send(self._client, wav)
        except AudioError:  # an unusable recording counts for neither version
            return self._observed()
        version = self._canary if answer is None else str(answer.model_version)
        if version not in self._tallies:
            raise RolloutError(
                f"version {version} answered, which is neither the stable one nor the canary "
                f"({' and '.join(self._tallies)}); nothing was changed"
            )
        self._tallies[version].count(recording, answer, latency_sec)
        return self._observed()

    def _observed(self) -> tuple[Observed, Observed]:
        return self._tallies[self._stable].observed(), self._tallies[self._canary].observed()


def _send(client: Client, wav: bytes) -> tuple[Prediction | None, float]:
    """Return the answer, or ``None`` if it failed or has non-finite values, and its latency in seconds.

    Raises:
        AudioError: The model cannot use the recording.
    """
    started = time.perf_counter()
    try:
        answer = client.predict(wav)
    except (RequestFailed, UnexpectedAnswer):
        return None, time.perf_counter() - started
    finite = all(map(math.isfinite, answer.probabilities.values()))
    return answer if finite else None, time.perf_counter() - started


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """Result of a watch.

    Attributes:
        verdict: Verdict of the observations.
        state: Versions that are served after the watch.
        note: Reason for not acting on the verdict; empty otherwise.
    """

    verdict: Verdict
    state: RolloutState
    note: str = ""

    @property
    def outcome(self) -> str:
        """Action taken: ``promoted``, ``rolled back`` or ``undecided``."""
        return "undecided" if self.note else _DONE[self.verdict.outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        checks = [check.to_dict() for check in self.verdict.checks]
        return {"outcome": self.outcome, "note": self.note, "checks": checks}


def watch(
    target: Target,
    observations: Observations,
    settings: WatchSettings,
    *,
    minutes: float,
    interval_sec: float = 1.0,
    progress: Progress = lambda stable, canary: None,
) -> Watched:
    """Watch for ``minutes``, or until the canary has clearly failed, and act on the verdict.

    A KeyboardInterrupt during the watch leaves everything as it was; during the action, it is ignored.

    Args:
        target: Place where both versions are served.
        observations: Source of the observations.
        settings: Bounds of the checks.
        minutes: Length of the watch in minutes.
        interval_sec: Pause between two rounds in seconds, which limits the load of the watch.
        progress: Called after each round with the observations so far.

    Raises:
        CanaryMissing: The canary or the stable version is missing.
        RolloutError: The target cannot be reached or changed.
    """
    before = both_versions(target)
    stable, canary = _observe(observations, settings, minutes=minutes, interval_sec=interval_sec, progress=progress)
    verdict = decide(stable, canary, settings)
    with _uninterrupted():
        now = target.state()
        if _versions(now) != before:
            return Watched(verdict=verdict, state=now, note="someone else changed the rollout during the watch")
        return Watched(verdict=verdict, state=_act(target, verdict, now))


def both_versions(target: Target) -> tuple[str, str]:
    """Return the stable version and the canary.

    Args:
        target: Place where both versions are served.

    Raises:
        CanaryMissing: One of them is missing.
    """
    stable, canary = _versions(target.state())
    if stable is None or canary is None:
        raise CanaryMissing(
            f"{target.name} does not have both a stable version and a canary; there is nothing to watch"
        )
    return stable, canary


def _observe(
    observations: Observations, settings: WatchSettings, *, minutes: float, interval_sec: float, progress: Progress
) -> tuple[Observed, Observed]:
    end = time.monotonic() + 60 * minutes
    rounds = 0
    while True:
        stable, canary = observations.observe()
        progress(stable, canary)
        rounds += 1
        left_sec = end - time.monotonic()
        if fails_early(stable, canary, settings) or (left_sec <= 0 and rounds >= observations.min_rounds):
            return stable, canary
        time.sleep(interval_sec)


def _act(target: Target, verdict: Verdict, now: RolloutState) -> RolloutState:
    if verdict.outcome == "promote":
        return target.promote()
    if verdict.outcome == "roll back":
        return target.rollback()
    return now


def _versions(state: RolloutState) -> tuple[str | None, str | None]:
    return state.stable.version if state.stable else None, state.canary.version if state.canary else None


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one is interrupted and sets handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
