"""Output of the commands: tables and lines that are not cut, and errors."""

import contextlib
import sys

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE_COLUMNS = 8
"""More columns are closer together: a row for each of seven emotions fits 80 characters."""


class _ErrorConsole(Console):
    """Console that goes on where its reader is gone: rich would end the program and close standard output."""

    def on_broken_pipe(self) -> None:
        """Do nothing."""


def console() -> Console:
    """Return the console of standard output; 160 columns wide where that is not a terminal."""
    printed = Console(highlight=False)
    return printed if printed.is_terminal else Console(highlight=False, width=160)


def counted(number: int, noun: str) -> str:
    """Return a number and a noun, in the plural unless it is one: ``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_line(line: str) -> None:
    """Print one line as it is: never cut, wrapped or read as markup."""
    console().print(line, soft_wrap=True, markup=False)


def print_status(line: str) -> None:
    """Print a line on standard error, such as what a command waits for, if it can be written."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def print_error(program: str, message: str) -> None:
    """Print a message on standard error, behind the name of the program, if it can be written."""
    text = Text.assemble((f"{program}:", "bold red"), " ", message)
    with contextlib.suppress(OSError):
        _ErrorConsole(stderr=True, highlight=False).print(text, soft_wrap=True)


def table(*texts: str, numbers: tuple[str, ...], title: str | None = None) -> Table:
    """Return an empty table: left-aligned columns of text, then right-aligned columns of numbers."""
    padding = 1 if len(texts) + len(numbers) <= _WIDE_COLUMNS else 0
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, padding, 0, 0), pad_edge=False)
    for name in texts:
        made.add_column(name, no_wrap=True)
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    return made
