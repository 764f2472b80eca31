"""Progress of a local run on the terminal: the running component, and the seconds of finished ones."""

import logging
import sys
import time
from typing import TextIO

from modules.common import live_line

# Messages of LocalDagRunner, which reports start and end of a node in no other way.
_STARTED = "Component %s is running."
_FINISHED = "Component %s is finished."
_REUSED = "A cached execution %d is used."


class ComponentProgress(logging.Handler):
    """Log handler that turns LocalDagRunner's messages into a line for each component, live on a terminal.

    Attributes:
        seconds: Duration of each finished component by name, in the order of the run.
        running: Name of the running component, or of the failed one.
    """

    def __init__(self, *, total: int, stream: TextIO | None = None) -> None:
        """Start without a running component.

        Args:
            total: Number of components in the pipeline.
            stream: Stream to write to; standard error by default.
        """
        super().__init__(logging.INFO)
        self.seconds: dict[str, float] = {}
        self.running: str | None = None
        self._total = total
        self._stream = stream or sys.stderr
        self._started_at_sec = 0.0
        self._reused = False
        self._head = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line if the record is the start or the end of a component.

        Args:
            record: Any log record.
        """
        if record.msg == _STARTED and isinstance(record.args, tuple):
            self._start(str(record.args[0]))
        elif record.msg == _REUSED:
            self._reused = True
        elif record.msg == _FINISHED:
            self._finish()

    def fail(self) -> str | None:
        """Record the running component as failed and return its name."""
        if self.running:
            self.seconds[self.running] = time.monotonic() - self._started_at_sec
            if self._stream.isatty():
                live_line.keep(f"{self._head}  failed", self._stream)
        return self.running

    def _start(self, component: str) -> None:
        self.running = component
        self._started_at_sec, self._reused = time.monotonic(), False
        position = len(self.seconds) + 1
        self._head = f"[{position:>{len(str(self._total))}}/{self._total}] {component}"
        live_line.show(self._head, self._stream)

    def _finish(self) -> None:
        if self.running is None:
            return
        seconds = self.seconds[self.running] = time.monotonic() - self._started_at_sec
        outcome = "nothing changed, reused" if self._reused else f"done in {seconds:.1f} s"
        # On a terminal the name is not above it any more.
        head = f"{self._head}  " if self._stream.isatty() else " " * (2 * len(str(self._total)) + 4)
        live_line.keep(f"{head}{outcome}", self._stream)
        self.running = None
