"""Redirection of what native libraries write to standard error."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def native_stderr_to(path: str | os.PathLike[str]) -> Iterator[None]:
    """Redirect file descriptor 2, which TensorFlow's C++ writes to before it reads any log level.

    ``sys.stderr`` stays the terminal.

    Args:
        path: File to append to.
    """
    sys.stderr.flush()
    former, terminal_fd = sys.stderr, os.dup(2)
    with (
        Path(path).open("ab") as log,
        os.fdopen(os.dup(terminal_fd), "w", buffering=1, errors="backslashreplace") as kept,
    ):
        os.dup2(log.fileno(), 2)
        sys.stderr = kept
        try:
            yield
        finally:
            sys.stderr = former
            os.dup2(terminal_fd, 2)
            os.close(terminal_fd)


def discarded_native_stderr() -> contextlib.AbstractContextManager[None]:
    """Return the context of :func:`native_stderr_to` without a file."""
    return native_stderr_to(os.devnull)
