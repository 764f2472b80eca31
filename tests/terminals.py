"""A terminal in memory."""

import io


class Terminal(io.StringIO):
    """Stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return what a person sees: of each line the text behind its last erasure."""
        return [line.rpartition("\x1b[2K")[2] for line in self.getvalue().removesuffix("\n").split("\n")]
