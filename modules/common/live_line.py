"""Lines of long work: one that is rewritten in place on a terminal, and one after another in a file."""

import shutil
import sys
from typing import TextIO

_CLEARED = "\r\x1b[2K"  # ECMA-48: erase in line


def show(text: str, stream: TextIO | None = None) -> None:
    """Write a line that the next one replaces on a terminal.

    Args:
        text: The line; on a terminal it is cut at the width.
        stream: Standard error by default.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        columns = shutil.get_terminal_size().columns
        print(f"{_CLEARED}{text[: columns - 1]}", end="", file=stream, flush=True)
    else:
        print(text, file=stream, flush=True)


def keep(text: str, stream: TextIO | None = None) -> None:
    """Write a line that stays, in place of one of :func:`show`.

    Args:
        text: The line.
        stream: Standard error by default.
    """
    stream = stream or sys.stderr
    print(f"{_CLEARED if stream.isatty() else ''}{text}", file=stream, flush=True)
