"""Tables in Markdown."""

from collections.abc import Collection, Iterable, Sequence


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, right: Collection[int] = ()) -> str:
    """Return a Markdown table without a final line break.

    Args:
        head: Titles of the columns.
        rows: Cells of each row; bars in them are escaped.
        right: Indices of columns that are aligned to the right.
    """
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    lines = [[str(cell).replace("|", "\\|") for cell in line] for line in (head, rule, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
