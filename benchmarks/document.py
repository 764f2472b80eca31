"""Tables in Markdown, and their place in a document between two marker comments."""

import textwrap
from collections.abc import Iterable, Sequence
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
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    document = path.read_text(encoding="utf-8")
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise ValueError(f"{path} has no place for this table; put the lines {begin.strip()} and {end.strip()} into it")
    before, after = document.split(begin)[0], document.split(end)[1]
    lines = [line if line.startswith("|") else _wrapped(line) for line in text.strip().splitlines()]
    path.write_text("\n".join([f"{before}{begin}", *lines, f"\n{end}{after}"]), encoding="utf-8")


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
