"""Progress of long work, in lines for the terminal and log files."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from modules.common import live_line


class Progress:
    """Counter of finished work that prints a line now and then, the same on a terminal. Threads may share it.

    A line reads ``AudioExampleGen  640/1440 clips  44 %  18 s, about 23 s left``.
    """

    def __init__(
        self,
        label: str,
        *,
        total: int,
        unit: str,
        every_sec: float = 3.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            label: Name of the work, at the start of every line.
            total: Units of the whole work.
            unit: Name of the units, in the plural.
            every_sec: Least time between two lines; the line of the last unit is always printed.
            stream: Stream for the lines; standard error by default.
            clock: Monotonic clock in seconds.
        """
        self._label, self._total, self._unit = label, total, unit
        self._every_sec, self._stream, self._clock = every_sec, stream, clock
        self._lock = threading.Lock()
        self._done = self._warm_up_units = 0
        self._start_sec = self._last_line_sec = self._warm_sec = clock()

    def advance(self, units: int = 1) -> None:
        """Count ``units`` more as done, and print a line when one is due."""
        with self._lock:
            self._done += units
            now_sec = self._clock()
            if not self._warm_up_units:
                self._warm_up_units, self._warm_sec = self._done, now_sec
            if self._done < self._total and now_sec - self._last_line_sec < self._every_sec:
                return
            self._last_line_sec = now_sec
            write = live_line.keep if self._done >= self._total else live_line.show
            write(self._line(now_sec), self._stream)

    def _line(self, now_sec: float) -> str:
        percent = 100 * self._done // self._total if self._total else 100
        head = f"{self._label}  {self._done}/{self._total} {self._unit}  {percent} %  {now_sec - self._start_sec:.0f} s"
        # The first units wait for libraries to load and graphs to be built, so they are not representative.
        measured_units = self._done - self._warm_up_units
        if not measured_units or self._done >= self._total:
            return head
        left_sec = (now_sec - self._warm_sec) * (self._total - self._done) / measured_units
        return f"{head}, about {left_sec:.0f} s left"


_SHOWN: dict[str, Progress] = {}


@contextlib.contextmanager
def shown(key: str, progress: Progress) -> Iterator[None]:
    """Register ``progress`` under ``key`` for code that cannot receive it as an argument, such as a Beam worker."""
    _SHOWN[key] = progress
    try:
        yield
    finally:
        del _SHOWN[key]


def advance(key: str, units: int = 1) -> None:
    """Advance the progress registered under ``key``; do nothing in a process where it is not registered."""
    if key in _SHOWN:
        _SHOWN[key].advance(units)
