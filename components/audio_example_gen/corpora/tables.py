"""Tables in CSV as spreadsheet programs write them: commas, semicolons or tabs, and the line ends of any system."""

import csv
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import _csv

_SEPARATORS = ",;\t"


def reader(table: str) -> "_csv.Reader":
    """Return a reader of the rows of a table.

    Args:
        table: Text of the table. Its header has the separator of its rows.
    """
    return csv.reader(_lines(table), delimiter=_separator(table))


def records(table: str) -> "csv.DictReader[str]":
    """Return a reader of the rows of a table by the names of its columns.

    Args:
        table: Text of the table. Its header has the separator of its rows.
    """
    return csv.DictReader(_lines(table), delimiter=_separator(table))


def select(table: str, keep: Callable[[int], bool]) -> str:
    """Return a table with its header and some of its rows, which keep their bytes.

    Args:
        table: Text of the table.
        keep: Whether to keep the row that ends at a line.
    """
    rows = reader(table)
    lines = list(_lines(table))
    kept, start = [], 0
    for _ in rows:
        if not start or keep(rows.line_num):
            kept += lines[start : rows.line_num]
        start = rows.line_num
    return "".join(kept)


def _lines(table: str) -> io.StringIO:
    return io.StringIO(table, newline="")  # the ends of lines stay


def _separator(table: str) -> str:
    header = next(_lines(table), "")
    return max(_SEPARATORS, key=header.count)
