"""Atomic writing of files, and locks."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; rename it to ``path`` at the end, and delete it after an error."""
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 to a temporary file and rename it, so that readers see the former or the new file, never a part.

    Args:
        path: File to write or replace.
        text: Content of the file.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_lock(file: IO[str], held: Exception) -> None:
    """Lock an open file against other processes until it is closed.

    Args:
        file: The open file.
        held: Error to raise if another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise held from None
