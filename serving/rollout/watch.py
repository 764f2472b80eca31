"""Watches a canary beside the stable version for a set time, and then promotes it, rolls it back, or leaves it.

Where the numbers come from is an :class:`Observations`: :class:`Probes` asks both versions by label, and
:class:`SharedProbes` a target that chooses for its callers.
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
from serving.rollout.state import RolloutError, RolloutState, Target
from serving.rollout.verdict import Observed, Verdict, is_hopeless, judge

_DONE = {"promote": "promoted", "roll back": "rolled back", "undecided": "undecided"}

Progress = Callable[[Observed, Observed], None]


class Observations(Protocol):
    """What is known of the stable version and of the canary.

    Attributes:
        least_rounds: How often :meth:`observe` is to be called at least, however short the watch.
    """

    least_rounds: int

    def observe(self) -> tuple[Observed, Observed]:
        """Finds out more; returns all that is known since the watch began, of stable version and canary."""


@dataclasses.dataclass
class _Tally:
    """Counts the answers of one version."""

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
    """Asks both versions about the same recording at each :meth:`observe`, in turn through all recordings.

    Which is asked first changes from recording to recording, so that neither finds the machine warmer.

    Args:
        stable: Asks the stable version.
        canary: Asks the canary.
        wavs: Encoded WAV files by name; at least one.
    """

    def __init__(self, stable: Client, canary: Client, wavs: Mapping[str, bytes]) -> None:
        if not wavs:
            raise ValueError("there are no recordings to ask about")
        self.least_rounds = len(wavs)
        self._clients = stable, canary
        self._wavs = list(wavs.items())
        self._tallies = _Tally(), _Tally()
        self._rounds = 0

    def observe(self) -> tuple[Observed, Observed]:
        recording, wav = self._wavs[self._rounds % len(self._wavs)]
        pairs = list(zip(self._tallies, self._clients, strict=True))
        # By pass and recording, so that with an even number of recordings too each version is first at each.
        first = (self._rounds + self._rounds // len(self._wavs)) % 2
        for tally, client in (pairs[first], pairs[1 - first]):
            with contextlib.suppress(AudioError):  # neither version can help a bad recording
                tally.count(recording, *_ask(client, wav))
        self._rounds += 1
        stable, canary = self._tallies
        return stable.observed(), canary.observed()


class SharedProbes:
    """Asks a target that shares the requests out itself, such as a Vertex AI endpoint, and sees who answered.

    A request that fails does not tell who failed it. It counts against the canary: a stable version that fails too
    makes a rollback more likely, never a promotion.

    Args:
        client: Asks without a choice of version; over gRPC, since REST does not tell the version.
        stable: The stable version.
        canary: The canary's version.
        wavs: Encoded WAV files by name; at least one.
    """

    def __init__(self, client: Client, stable: str, canary: str, wavs: Mapping[str, bytes]) -> None:
        if not wavs:
            raise ValueError("there are no recordings to ask about")
        self.least_rounds = len(wavs)
        self._client = client
        self._canary = canary
        self._wavs = list(wavs.items())
        self._tallies = {stable: _Tally(), canary: _Tally()}
        self._stable = stable
        self._rounds = 0

    def observe(self) -> tuple[Observed, Observed]:
        recording, wav = self._wavs[self._rounds % len(self._wavs)]
        self._rounds += 1
        try:
            answer, latency_sec = _ask(self._client, wav)
        except AudioError:  # neither version can help a bad recording
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


def _ask(client: Client, wav: bytes) -> tuple[Prediction | None, float]:
    """The answer, if there is one and it is made of numbers, and how long it took in seconds.

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
    """How a watch ended.

    Attributes:
        verdict: What the observations say.
        state: What is served after it was acted upon.
        note: Why nothing was changed although the verdict was to; empty otherwise.
    """

    verdict: Verdict
    state: RolloutState
    note: str = ""

    @property
    def outcome(self) -> str:
        """What was done: ``promoted``, ``rolled back`` or ``undecided``."""
        return "undecided" if self.note else _DONE[self.verdict.outcome]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"outcome": self.outcome, "note": self.note, "checks": self.verdict.to_dict()["checks"]}


def watch(
    target: Target,
    observations: Observations,
    settings: WatchSettings,
    *,
    minutes: float,
    interval_sec: float = 1.0,
    progress: Progress = lambda stable, canary: None,
) -> Watched:
    """Watches for ``minutes``, or until the canary's errors leave no doubt, and acts upon the verdict.

    A KeyboardInterrupt while it watches leaves everything as it was; while it acts, it is ignored.

    Args:
        interval_sec: Pause between two rounds, so that the watch is no load of its own.
        progress: Called after each round with what is known so far.

    Raises:
        RolloutError: There is no canary and stable version to compare, or the target cannot be reached or changed.
    """
    before = both_versions(target)
    stable, canary = _observe(observations, settings, minutes=minutes, interval_sec=interval_sec, progress=progress)
    verdict = judge(stable, canary, settings)
    with _uninterrupted():
        now = target.state()
        if _versions(now) != before:
            return Watched(verdict=verdict, state=now, note="someone else changed the rollout while it was watched")
        return Watched(verdict=verdict, state=_act(target, verdict, now))


def both_versions(target: Target) -> tuple[str, str]:
    """Of stable version and canary.

    Raises:
        RolloutError: One of them is missing.
    """
    stable, canary = _versions(target.state())
    if stable is None or canary is None:
        raise RolloutError(f"{target.name} has no canary beside a stable version; there is nothing to watch")
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
        if is_hopeless(stable, canary, settings) or (left_sec <= 0 and rounds >= observations.least_rounds):
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
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted, and may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
