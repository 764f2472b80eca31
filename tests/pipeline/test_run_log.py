"""The log of a run, on a disk that is full."""

import logging
from pathlib import Path

import pytest

from pipeline.run_log import quiet


def test_a_full_disk_is_one_error_without_a_traceback_for_each_message(capfd):
    with pytest.raises(OSError, match="No space left"), quiet(Path("/dev/full")):
        logging.getLogger("library").error("a message")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_message_that_cannot_be_formatted_is_reported(tmp_path, capfd):
    with quiet(tmp_path / "run.log"):
        logging.getLogger("library").error("%d", "no number")
    assert "TypeError" in capfd.readouterr().err
