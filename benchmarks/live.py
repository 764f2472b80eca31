"""Delay and memory of live audio: ``python -m benchmarks.live --model output/serving/3 [--write FILE]``.

An hour of sound goes through the client to the embedded server, which runs in a process of its own. Nothing waits
between two chunks; delays are those of a caller whose chunks arrive in real time.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import command, document
from benchmarks.reliability import RATE_HZ, Server, memory_mib, running, speechlike
from serving.client import Client

CHUNK_SEC = 0.1
INTERVALS = 6


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        minute: Minute of the sound at the end of the interval.
        windows: Windows that were answered in the interval.
        longest_sec: Longest time from the end of one of these windows to its answer.
        client_mib: Resident memory of the client's process at the end of the interval.
        server_mib: Resident memory of the server's process at the end of the interval.
    """

    minute: float
    windows: int
    longest_sec: float
    client_mib: float
    server_mib: float


class Microphone:
    """Sound that arrives in chunks: a gliding tone in noise, noise, and silence in turn, each for ten seconds."""

    def __init__(self, minutes: float) -> None:
        """Begin at second 0.

        Args:
            minutes: Length of the sound.
        """
        noise = np.random.default_rng(0).normal(0, 0.05, 10 * RATE_HZ).astype(np.float32)
        self._sound = np.concatenate([speechlike(10.0), noise, np.zeros(10 * RATE_HZ, np.float32)])
        self._chunks = round(60 * minutes / CHUNK_SEC)
        self._arrived = 0
        self._arrived_at = 0.0

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the chunks, float32 ``[samples]``."""
        frames = round(CHUNK_SEC * RATE_HZ)
        for _ in range(self._chunks):
            start = self._arrived % len(self._sound)
            self._arrived += frames
            self._arrived_at = time.perf_counter()
            yield self._sound[start : start + frames]

    def delay_sec(self, end_sec: float) -> float:
        """Return the time from a moment of the sound to now, if its last chunk arrived when it was complete.

        Args:
            end_sec: The moment, in seconds of the sound.
        """
        return self._arrived / RATE_HZ - end_sec + time.perf_counter() - self._arrived_at


def measure(server: Server, minutes: float) -> list[Row]:
    """Return a row for each sixth of the sound.

    Args:
        server: The running server.
        minutes: Length of the sound.
    """
    microphone = Microphone(minutes)
    rows: list[Row] = []
    delays: list[float] = []
    with Client(server.grpc, timeout_sec=60) as client:
        for window in client.live(microphone.chunks(), RATE_HZ):
            delays.append(microphone.delay_sec(window.end_sec))
            minute = minutes * (len(rows) + 1) / INTERVALS
            if window.end_sec >= 60 * minute - CHUNK_SEC:
                rows.append(Row(minute, len(delays), max(delays), memory_mib(os.getpid())[0], server.memory_mib[0]))
                delays = []
    return rows


def to_markdown(rows: list[Row]) -> str:
    """Return the table."""
    heads = ("to minute", "windows", "longest delay (ms)", "client (MiB)", "server (MiB)")
    cells = [(row.windows, 1e3 * row.longest_sec, row.client_mib, row.server_mib) for row in rows]
    texts = [[f"{value:.0f}" for value in values] for values in cells]
    return document.table(heads, [(f"{row.minute:g}", *text) for row, text in zip(rows, texts, strict=True)])


def main() -> None:
    """Stream the sound and print the table."""
    parser = command.make_parser_without_data(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a pushed version")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the sound")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(options.model, Path(folder) / "1")
        with running(Path(folder)) as server:
            rows = measure(server, options.minutes)
    command.publish({"live": to_markdown(rows)}, options.write)


if __name__ == "__main__":
    main()
