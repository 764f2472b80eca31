"""Puts a run's summary and report into a folder."""

import os
from pathlib import Path

from modules.common.files import write_whole
from modules.reporting.html import render
from modules.reporting.summary import RunSummary
from modules.reporting.tuned import TUNED_FILE, tuned_config

SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"


def write(summary: RunSummary, directory: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write ``summary.json`` and ``report.html``, each whole, into ``directory``, which is made if need be.

    A run that searched hyperparameters leaves them in ``tuned.yaml``, too.

    Returns:
        Paths of the summary, the report and, after a search, the tuned configuration.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {SUMMARY_FILE: summary.to_json(), REPORT_FILE: render(summary), TUNED_FILE: tuned_config(summary)}
    written = {folder / name: text for name, text in texts.items() if text is not None}
    for path, text in written.items():
        write_whole(path, text)
    return tuple(written)
