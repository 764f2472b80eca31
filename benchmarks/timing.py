"""Timing of candidates in alternation, so that changes of the machine's speed affect all alike."""

import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)

ONE_THREAD = dict.fromkeys(
    (
        "NUMBA_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "TF_NUM_INTRAOP_THREADS",
    ),
    "1",
)


def use_one_core() -> None:
    """Restart this program on one core, unless it already runs on one.

    A restart is needed because imported libraries have already started their threads.
    """
    cores = os.sched_getaffinity(0)
    if len(cores) == 1 and ONE_THREAD.items() <= os.environ.items():
        return
    os.sched_setaffinity(0, {min(cores)})
    os.execve(sys.executable, sys.orig_argv, os.environ | ONE_THREAD)


def median_seconds(
    candidates: Mapping[Name, Callable[[], object]],
    *,
    rounds: int,
    warm_up_rounds: int = 2,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, float]:
    """Return the median duration of one call of each candidate, in seconds; every round has a random order.

    Args:
        candidates: Functions by name.
        rounds: Number of measured rounds.
        warm_up_rounds: Number of rounds before them.
        seed: Seed of the order.
        clock: Clock in seconds; ``time.process_time`` measures one core well on a shared machine.
    """
    order = list(candidates)
    durations_sec: dict[Name, list[float]] = {name: [] for name in candidates}
    shuffler = random.Random(seed)
    for number in range(warm_up_rounds + rounds):
        shuffler.shuffle(order)
        for name in order:
            duration_sec = _seconds_of(candidates[name], clock)
            if number >= warm_up_rounds:
                durations_sec[name].append(duration_sec)
    return {name: statistics.median(values) for name, values in durations_sec.items()}


def _seconds_of(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start
