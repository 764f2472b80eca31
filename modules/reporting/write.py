"""Puts a run's summary and report into a folder."""

import os
from pathlib import Path

from modules.common.files import write_whole
from modules.reporting.html import render
from modules.reporting.summary import RunSummary

SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"


def write(summary: RunSummary, directory: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Writes ``summary.json`` and ``report.html``, each whole, into ``directory``, which is made if need be.

    Returns:
        Where the summary and the report lie.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    summary_path, report_path = folder / SUMMARY_FILE, folder / REPORT_FILE
    write_whole(summary_path, summary.to_json())
    write_whole(report_path, render(summary))
    return summary_path, report_path
