"""Answers of the report's first screen: compared with what, where it is weakest, and what to do next."""

import dataclasses

from modules.reporting import advice
from modules.reporting.metric_names import metric_text
from modules.reporting.summary import RunSummary, SliceResult

_MOST_WEAK = 3
_MIN_CLIPS = 5


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A UAR that the model's is compared with.

    Attributes:
        name: What has this UAR.
        uar: Its UAR, 0 to 1.
        difference: UAR of the model less this one, on the same clips where there is a choice.
        reading: Meaning of the difference, empty if it has none.
    """

    name: str
    uar: float
    difference: float
    reading: str = ""


def comparisons(summary: RunSummary) -> tuple[Comparison, ...]:
    """Return guessing, the blessed baseline and the run before, as far as they are known.

    Args:
        summary: Summary of the run.
    """
    uar = _uar(summary)
    if summary.evaluation is None or uar is None:
        return ()
    found = []
    if chance := summary.evaluation.chance:
        found.append(Comparison("Guessing", chance, uar - chance))
    found += _baseline(summary)
    if summary.history and (before := summary.history[-1]).uar is not None:
        found.append(Comparison(f"The run before, {before.id}", before.uar, uar - before.uar))
    return tuple(found)


def _baseline(summary: RunSummary) -> list[Comparison]:
    baseline = summary.baseline
    uar = baseline.difference("uar") if baseline else None
    if baseline is None or uar is None or uar.baseline is None or uar.difference is None:
        return []
    reading = uar.direction if baseline.interval_known else f"unknown with {baseline.speakers} speakers"
    return [Comparison(f"Blessed {baseline.name}", uar.baseline, uar.difference, reading)]


def weakest(summary: RunSummary) -> tuple[SliceResult, ...]:
    """Return the slices with the lowest UAR, at most one of each dimension, below that of the whole split.

    Args:
        summary: Summary of the run.
    """
    uar = _uar(summary)
    if summary.evaluation is None or uar is None:
        return ()
    lowest: dict[str, SliceResult] = {}
    for part in sorted(summary.evaluation.slices, key=slice_uar):
        if part.clips >= _MIN_CLIPS and 0 <= slice_uar(part) < uar:
            lowest.setdefault(part.dimension, part)
    return tuple(lowest.values())[:_MOST_WEAK]


def slice_uar(part: SliceResult) -> float:
    """Return the UAR of a slice, or -1 if it is unknown."""
    metric = part.metric("uar")
    return metric.value if metric and metric.value is not None else -1.0


def next_steps(summary: RunSummary) -> tuple[str, ...]:
    """Return what to do after a completed run.

    Args:
        summary: Summary of the run.
    """
    if summary.verdict is None or summary.run.status == "failed":
        return ()
    if not summary.verdict.blessed:
        return advice.after_checks(summary.verdict.checks)
    few = summary.evaluation is not None and not summary.evaluation.interval_known
    failed = [check for check in summary.verdict.checks if not check.passed]  # by override, or in the serving trial
    return (*advice.after_checks(failed), *((advice.FEW_SPEAKERS,) if few else ()), *advice.after_push(summary.pushed))


def interval_words(summary: RunSummary) -> str:
    """Return the interval of the UAR in words; from few speakers, that it is unknown.

    Args:
        summary: Summary of the run.
    """
    evaluation = summary.evaluation
    uar = evaluation.metric("uar") if evaluation else None
    if evaluation is None or uar is None or uar.low is None or uar.high is None:
        return "interval unknown"
    level = f"{100 * evaluation.interval.level:.0f} % interval"
    limits = f"{metric_text(uar.low, 'uar')} to {metric_text(uar.high, 'uar')}"
    if evaluation.interval_known:
        return f"{level} {limits}"
    few = "1 speaker" if evaluation.speakers == 1 else f"{evaluation.speakers} speakers"
    return f"{level} unknown with {few}, roughly {limits}"


def _uar(summary: RunSummary) -> float | None:
    uar = summary.evaluation.metric("uar") if summary.evaluation else None
    return uar.value if uar else None
