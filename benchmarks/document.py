"""Tables in Markdown, and their place in a document between two marker comments."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from modules.evaluation.intervals import Estimate
from modules.reporting import markdown


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right.

    Args:
        heads: Titles of the columns.
        rows: Cells of each row.
    """
    return markdown.table(heads, rows, right=range(1, len(heads))) + "\n"


def write(path: Path, name: str, text: str) -> None:
    """Write ``text`` between ``<!-- name -->`` and ``<!-- /name -->``.

    Args:
        path: Markdown document.
        name: Name of the markers.
        text: Text to write.

    Raises:
        ValueError: The document does not have each marker once, in this order.
    """
    before, _, after = _parts(path, name)
    lines = [line if line.startswith("|") else _wrapped(line) for line in text.strip().splitlines()]
    path.write_text("\n".join([before, *lines, f"\n{after}"]), encoding="utf-8")


def write_rows(path: Path, name: str, text: str) -> None:
    """Replace rows of the tables between ``<!-- name -->`` and ``<!-- /name -->``, and keep everything else.

    Args:
        path: Markdown document.
        name: Name of the markers.
        text: Tables; each row replaces the one with the same first cell in the table with the same titles.

    Raises:
        ValueError: The document does not have each marker once, in this order, or lacks a row.
    """
    before, old, after = _parts(path, name)
    rows = {key: line for key, line in _keyed(text) if key}
    lines = [rows.pop(key, line) if key else line for key, line in _keyed(old)]
    if rows:
        names = ", ".join(first for _, first in rows)
        raise ValueError(f"{path} has no such row between the markers {name}: {names}; write the whole table")
    path.write_text("\n".join([before + lines[0], *lines[1:], after]), encoding="utf-8")


def _parts(path: Path, name: str) -> tuple[str, str, str]:
    """Return the text up to and with the first marker, that between the markers, and the rest."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    document = path.read_text(encoding="utf-8")
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise ValueError(f"{path} has no place for this table; put the lines {begin.strip()} and {end.strip()} into it")
    before, rest = document.split(begin)
    inside, after = rest.split(end)
    return before + begin, inside, end + after


def _keyed(text: str) -> Iterator[tuple[tuple[str, str] | None, str]]:
    """Yield each line with the titles of its table and its first cell; None outside of tables."""
    titles = ""
    for line in text.splitlines():
        titles = (titles or line) if line.startswith("|") else ""
        yield ((titles, line.split("|")[1].strip()) if titles else None), line


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False)


def percent(value: float) -> str:
    """Return a share as a percentage without the sign."""
    return f"{100 * value:.1f}"


def percent_range(low: float, high: float) -> str:
    """Return an interval of shares as percentages."""
    return f"{percent(low)} to {percent(high)}"


def percent_with_range(estimate: Estimate) -> str:
    """Return a share and its interval as percentages."""
    low, high = float(estimate.low), float(estimate.high)
    return f"{percent(float(estimate.value))} ({percent_range(low, high)})"


def points(difference: Estimate) -> str:
    """Return a difference and its interval in percentage points, with signs."""
    value, low, high = (100 * float(bound) for bound in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
