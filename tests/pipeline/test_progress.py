"""Lines of a run on a terminal and in a file."""

import io
import logging

import pytest

from modules.common import live_line
from modules.common.progress import Progress
from pipeline.progress import ComponentProgress
from tests.terminals import Terminal


def run_two_components(stream, *, failed=False):
    """Send the messages of TFX's runner for two components, with a progress within the first."""
    progress = ComponentProgress(total=12, stream=stream)
    logger = logging.Logger("absl")
    logger.addHandler(progress)
    logger.info("Component %s is running.", "AudioExampleGen")
    clips = Progress("AudioExampleGen", total=3, unit="clips", every_sec=0, stream=stream)
    clips.advance()
    clips.advance()
    logger.info("Component %s is finished.", "AudioExampleGen")
    logger.info("Component %s is running.", "Trainer")
    if failed:
        progress.fail()
    else:
        logger.info("A cached execution %d is used.", 7)
        logger.info("Component %s is finished.", "Trainer")
    return progress


def test_a_terminal_has_one_line_for_each_component():
    terminal = Terminal()
    progress = run_two_components(terminal)
    assert terminal.lines() == [
        "[ 1/12] AudioExampleGen  done in 0.0 s",
        "[ 2/12] Trainer  nothing changed, reused",
    ]
    assert "1/3 clips" in terminal.getvalue()
    assert list(progress.seconds) == ["AudioExampleGen", "Trainer"]


def test_a_file_has_all_lines_without_control_characters():
    file = io.StringIO()
    run_two_components(file)
    assert "\x1b" not in file.getvalue()
    names = [line.split("  ")[0].strip() for line in file.getvalue().splitlines()]
    assert names == ["[ 1/12] AudioExampleGen", "AudioExampleGen", "AudioExampleGen", "", "[ 2/12] Trainer", ""]


def test_a_failed_component_leaves_the_terminal_at_a_new_line():
    terminal = Terminal()
    progress = run_two_components(terminal, failed=True)
    assert terminal.getvalue().endswith("\n")
    assert terminal.lines()[-1] == "[ 2/12] Trainer  failed"
    assert progress.running == "Trainer"


@pytest.mark.parametrize("columns", [20, 80])
def test_a_live_line_never_wraps(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    live_line.show("x" * 300, terminal)
    assert len(terminal.lines()[-1]) == columns - 1
