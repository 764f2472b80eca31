"""Puts a run's summary and report into a folder."""

import os
from pathlib import Path

from modules.reporting.html import render
from modules.reporting.summary import RunSummary

SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"


def write(summary: RunSummary, directory: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Writes ``summary.json`` and ``report.html`` into ``directory``, which is made if need be.

    Each file is written aside and renamed: a reader finds the former one or the new one, never half of one.

    Returns:
        Where the summary and the report lie.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    summary_path, report_path = folder / SUMMARY_FILE, folder / REPORT_FILE
    _replace(summary_path, summary.to_json())
    _replace(report_path, render(summary))
    return summary_path, report_path


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
