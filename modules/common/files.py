"""Atomic writing of files."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
