"""Tables of the benchmark, and its goals."""

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks import document
from benchmarks.serving.candidates import SIGNATURES
from benchmarks.serving.measurement import LIBROSA_REST, ROUNDS

START_GOAL = "a new process imports the client and gets an answer: seconds, at most"


class Goal(NamedTuple):
    """The value reached, the median over rounds if there are several, and the bound."""

    reached: float
    bound: float
    rounds: tuple[float, ...] = ()

    @classmethod
    def of_rounds(cls, ratios: Iterable[float], bound: float) -> "Goal":
        """Return the goal with the median of ``ratios``, one for each round."""
        rounds = tuple(ratios)
        return cls(statistics.median(rounds), bound, rounds)


def goals(measured: dict[str, dict]) -> dict[str, Goal]:
    """Return each goal; its name states on which side of the bound it is met."""
    single = measured["one client"]
    checks = {}
    for name in SIGNATURES:
        allowed_ms = 1.3 * single[f"(a) {name} in process"]["p50_ms"] + 2
        p50_ms = single[f"{name}, batching on"]["p50_ms"]
        checks[f"{name}: one client's p50, at most 1.3 x (a) + 2 ms"] = Goal(p50_ms, allowed_ms)
        share = Goal.of_rounds(measured["shares"][name], 0.8)
        checks[f"{name}: 32 clients' throughput, at least 0.8 x (a) at its best batch"] = share
    gain = Goal.of_rounds(measured["gains"]["serving_default"], 5.0)
    checks["serving_default: 32 clients' throughput, at least 5 x (b)"] = gain
    return checks | {START_GOAL: Goal(measured["new process"]["median_sec"], 1.5)}


def shares_by_cpu(measured: dict[str, dict], name: str) -> tuple[float, float]:
    """Return two ratios of CPU times: (a) at its best to the server, and (a) at its best to (a) plus the floor.

    The second is the largest value that a server with grpc.aio can reach in the first.
    """
    model_ms = min(pace["cpu_ms"] for pace in measured["in process"][name].values())
    many = measured["many clients"]
    floor_ms = many[f"{name}, floor"]["server_cpu_ms"]
    return model_ms / many[f"{name}, batching on"]["server_cpu_ms"], model_ms / (model_ms + floor_ms)


def report(measured: dict[str, dict]) -> str:
    """Return the tables of docs/benchmarks/serving.md: the measurements, and the goals with the values reached."""
    librosa_rest = f"(b): {measured['many clients'][LIBROSA_REST]['per_sec']:.0f} requests per second with 32 clients."
    return "\n".join([_measurements(measured), librosa_rest, "", goals_table(measured)])


def _measurements(measured: dict[str, dict]) -> str:
    single, many, paces = measured["one client"], measured["many clients"], measured["in process"]
    best = {name: max(paces[name], key=lambda size: paces[name][size]["per_sec"]) for name in SIGNATURES}
    rows: dict[str, Callable[[str], str]] = {
        "(a) in process, one client, p50": lambda name: f"{single[f'(a) {name} in process']['p50_ms']:.1f} ms",
        "`ser serve`, one client, p50": lambda name: f"{single[f'{name}, batching on']['p50_ms']:.1f} ms",
        "without batching, one client, p50": lambda name: f"{single[f'{name}, batching off']['p50_ms']:.1f} ms",
        "`ser serve`, 32 clients, p50": lambda name: f"{many[f'{name}, batching on']['p50_ms']:.0f} ms",
        "`ser serve`, 32 clients, p99": lambda name: f"{many[f'{name}, batching on']['p99_ms']:.0f} ms",
        "`ser serve`, 32 clients, per second": lambda name: f"{many[f'{name}, batching on']['per_sec']:.0f}",
        "without batching, 32 clients, per second": lambda name: f"{many[f'{name}, batching off']['per_sec']:.0f}",
        "(a) at its best batch size, per second": lambda name: f"{paces[name][best[name]]['per_sec']:.0f}",
        "that batch size": lambda name: str(best[name]),
        "server's CPU time per request": lambda name: f"{many[f'{name}, batching on']['server_cpu_ms']:.2f} ms",
        "the floor's": lambda name: f"{many[f'{name}, floor']['server_cpu_ms']:.2f} ms",
        "share of (a) by CPU time": lambda name: f"{shares_by_cpu(measured, name)[0]:.2f}",
        "share that the floor allows": lambda name: f"{shares_by_cpu(measured, name)[1]:.2f}",
    }
    return document.table(
        ["", *(f"`{name}`" for name in SIGNATURES)], ([label, *map(cell, SIGNATURES)] for label, cell in rows.items())
    )


def goals_table(measured: dict[str, dict]) -> str:
    """Return the table of the goals: the median, its range over the rounds, and whether the bound is kept."""
    rows = []
    for name, goal in goals(measured).items():
        met = goal.reached <= goal.bound if "at most" in name else goal.reached >= goal.bound
        span = f"{min(goal.rounds):.2f} to {max(goal.rounds):.2f}" if goal.rounds else ""
        rows.append([name, f"{goal.reached:.2f}", span, f"{goal.bound:.2f}", "yes" if met else "**no**"])
    return document.table(["goal", "reached", f"in {ROUNDS} rounds", "bound", "met"], rows)
