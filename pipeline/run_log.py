"""Redirection of the messages of libraries from the terminal into the run's log."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import logging as absl_logging

from modules.common.native_output import native_stderr_to


@contextlib.contextmanager
def quiet(log_path: Path) -> Iterator[None]:
    """Write native libraries' and child processes' standard error and Python's logging to a file.

    ``sys.stderr`` stays the terminal.

    Args:
        log_path: The file; its folder is created if missing.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with native_stderr_to(log_path), _logging_to(log_path):
        yield


class _LogFile(logging.FileHandler):
    """Handler that drops what it cannot write, such as on a full disk; logging prints a traceback for each message."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report other errors than those of the file.

        Args:
            record: The message that was not written.
        """
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextlib.contextmanager
def _logging_to(log_path: Path) -> Iterator[None]:
    to_file = _LogFile(log_path)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
    root = logging.getLogger()
    absl_logging.use_absl_handler()  # now, since absl would add its handler to the root logger later
    former_handlers, former_level = root.handlers[:], root.level
    root.handlers[:] = [to_file]
    root.setLevel(logging.INFO)
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = former_handlers
        root.setLevel(former_level)
        to_file.close()
