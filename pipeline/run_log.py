"""Redirection of the messages of libraries from the terminal into the run's log."""

import contextlib
import logging
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


@contextlib.contextmanager
def _logging_to(log_path: Path) -> Iterator[None]:
    to_file = logging.FileHandler(log_path)
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
