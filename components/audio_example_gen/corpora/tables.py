"""Tables in CSV as spreadsheet programs write them: commas, semicolons or tabs, and the line ends of any system.

Excel writes a first line such as ``sep=;`` where the separator is not that of the country.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import _csv

_SEPARATORS = ",;\t"
_NAMED_SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]+', re.IGNORECASE)


def reader(table: str) -> "_csv.Reader":
    """Return a reader of the header and the rows of a table.

    Args:
        table: Text of the table. Its header has the separator of its rows.
    """
    named = _NAMED_SEPARATOR.match(table)
    rows = csv.reader(_lines(table), delimiter=named[1] if named else _separator(table))
    if named:
        next(rows)
    return rows


def records(table: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the last line of each row of a table, and its cells by the names of the columns.

    Args:
        table: Text of the table. Its header has the separator of its rows.
    """
    rows = reader(table)
    names = next(rows, [])
    for row in rows:
        yield rows.line_num, dict(zip(names, row, strict=False))


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
