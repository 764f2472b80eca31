"""Kept runs of an output folder: summary and report of each, and the course of the UAR."""

import datetime
from collections.abc import Iterator
from pathlib import Path

from modules.reporting.summary import PastRun, RunSummary
from modules.reporting.write import SUMMARY_FILE

RUNS_DIR = "runs"
"""Folder below the output folder that has a folder of each run, named by its id."""

_SHOWN = 20


def run_id(started: datetime.datetime) -> str:
    """Return the id of a run, which sorts by time: ``20261128-215943``, in UTC.

    Args:
        started: Start of the run, with its time zone.
    """
    return started.astimezone(datetime.UTC).strftime("%Y%m%d-%H%M%S")


def read_runs(root: Path) -> Iterator[tuple[str, RunSummary]]:
    """Yield id and summary of each kept run, the oldest first, without those of another schema version.

    Args:
        root: Output folder of the runs.
    """
    for path in sorted((root / RUNS_DIR).glob(f"*/{SUMMARY_FILE}")):
        if summary := read_summary(path):
            yield path.parent.name, summary


def read_summary(path: Path) -> RunSummary | None:
    """Return the summary in a file; None if it is missing, damaged or of another schema version.

    Args:
        path: A ``summary.json``.
    """
    try:
        return RunSummary.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # UnicodeError, ValidationError and SummaryVersionError among them
        return None


def history(root: Path) -> tuple[PastRun, ...]:
    """Return the newest kept runs that evaluated a model, the oldest first.

    Args:
        root: Output folder of the runs.
    """
    runs = (past_run(name, summary) for name, summary in read_runs(root))
    return tuple(run for run in runs if run is not None)[-_SHOWN:]


def past_run(name: str, summary: RunSummary) -> PastRun | None:
    """Return the result of a run in a line; None without a UAR.

    Args:
        name: Id of the run.
        summary: Its summary.
    """
    uar = summary.evaluation.metric("uar") if summary.evaluation else None
    if uar is None or uar.value is None:
        return None
    return PastRun(
        id=name,
        started=summary.run.started,
        family=summary.training.family if summary.training else None,
        speakers=summary.evaluation.speakers if summary.evaluation else 0,
        uar=uar.value,
        low=uar.low,
        high=uar.high,
        blessed=bool(summary.verdict and summary.verdict.blessed),
        version=summary.pushed.version if summary.pushed else None,
    )
