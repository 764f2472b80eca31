"""Reading of files that a user names, atomic writing, and locks."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def require_file(path: Path) -> None:
    """Require a regular file before it is opened: a pipe may block for ever, and a device may never end.

    Args:
        path: The file.

    Raises:
        OSError: It does not exist, or is something else.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO, f"it is {kind}, not a file", str(path))


def fault_of(file: str) -> str:
    """Return why an entry of a folder is not read, such as ``a broken link``; empty for a regular file.

    Args:
        file: Path of the entry.
    """
    path = Path(file)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "a broken link" if path.is_symlink() else f"cannot be read: {error.strerror or error}"
    if stat.S_ISREG(mode):
        return ""
    return "a folder, not a sound file" if stat.S_ISDIR(mode) else "not a regular file"


def read_text(path: Path) -> str:
    """Return the content of a text file that a user names.

    Args:
        path: The file, in UTF-8.

    Raises:
        OSError: It does not exist, is not a regular file, cannot be read or is not text.
    """
    require_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, "it is not text in UTF-8", str(path)) from error


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
