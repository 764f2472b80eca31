"""Says on the terminal which component runs, and how long each one took."""

import logging
import sys
import time
from typing import TextIO

# LocalDagRunner tells of a node's start and end by logging alone; these are its messages.
_STARTED = "Component %s is running."
_FINISHED = "Component %s is finished."
_REUSED = "A cached execution %d is used."


class ComponentProgress(logging.Handler):
    """Turns LocalDagRunner's messages into a line for each component, and remembers the seconds.

    Attributes:
        seconds: Of each component that finished, in the order of the run.
        running: The component at work, or the one that failed.
    """

    def __init__(self, *, total: int, stream: TextIO | None = None) -> None:
        """``total`` is the number of components in the pipeline."""
        super().__init__(logging.INFO)
        self.seconds: dict[str, float] = {}
        self.running: str | None = None
        self._total = total
        self._stream = stream or sys.stderr
        self._started_at_sec = 0.0
        self._reused = False

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == _STARTED:
            self._start(str(record.args[0]))  # type: ignore[index]  # the message has the one argument
        elif record.msg == _REUSED:
            self._reused = True
        elif record.msg == _FINISHED:
            self._finish()

    def fail(self) -> str | None:
        """Closes the component at work as failed and returns its name."""
        if self.running:
            self.seconds[self.running] = time.monotonic() - self._started_at_sec
        return self.running

    def _start(self, component: str) -> None:
        self.running = component
        self._started_at_sec, self._reused = time.monotonic(), False
        position = len(self.seconds) + 1
        print(f"[{position:>{len(str(self._total))}}/{self._total}] {component}", file=self._stream, flush=True)

    def _finish(self) -> None:
        if self.running is None:
            return
        seconds = self.seconds[self.running] = time.monotonic() - self._started_at_sec
        indent = " " * (2 * len(str(self._total)) + 4)
        outcome = "nothing changed, reused" if self._reused else f"done in {seconds:.1f} s"
        print(f"{indent}{outcome}", file=self._stream, flush=True)
        self.running = None
