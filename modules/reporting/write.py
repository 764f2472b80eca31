"""Writing of a run's summary and report."""

import os
from collections.abc import Mapping
from pathlib import Path

from modules.common.files import write_whole
from modules.reporting.html import render
from modules.reporting.summary import RunSummary
from modules.reporting.tuned import TUNED_FILE, tuned_config

SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"


def write(
    summary: RunSummary,
    directory: str | os.PathLike[str],
    *,
    sounds: Mapping[str, str] | None = None,
    links: bool = False,
) -> tuple[Path, ...]:
    """Write ``summary.json`` and ``report.html`` atomically, and after a search ``tuned.yaml``.

    Args:
        summary: Summary of the run.
        directory: Folder of the files; created if it does not exist.
        sounds: Addresses of the scheme ``data:`` of recordings that the report plays, by path.
        links: Whether the report links local files relative to ``directory``, because it stays there.

    Returns:
        Paths of the summary, the report and, after a search, the tuned configuration.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        SUMMARY_FILE: summary.to_json(),
        REPORT_FILE: render(summary, sounds=sounds, folder=folder if links else None),
        TUNED_FILE: tuned_config(summary),
    }
    written = {folder / name: text for name, text in texts.items() if text is not None}
    for path, text in written.items():
        write_whole(path, text)
    return tuple(written)
