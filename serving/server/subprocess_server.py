"""Embedded server as a child process that ends with its parent."""

import contextlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from serving import server
from serving.server.command import CannotServe

_LISTENING = re.compile(r"gRPC on port (\d+), REST and metrics on port (\d+)")
_BATCHING_FILE = Path(__file__).parents[1] / "config" / "batching.config"
_POLL_SEC = 0.1
_STOP_SEC = 10.0
_KEPT_LINES = 15


@contextlib.contextmanager
def served(model_base_path: str, *, timeout_sec: float, rest: bool = False) -> Iterator[str]:
    """Serve the versions below ``model_base_path``, batched as in production, on a free port of this machine.

    Args:
        model_base_path: Folder with a numbered folder per version.
        timeout_sec: Longest time for the start, in seconds.
        rest: Yield the URL of the REST interface in place of the address for gRPC.

    Yields:
        The address.

    Raises:
        CannotServe: The server ended, or loaded no model in time; the message holds the end of its log.
    """
    command = [sys.executable, "-m", server.__name__, "--end-with-parent", "--model-base-path", model_base_path]
    command += ["--batching-parameters-file", str(_BATCHING_FILE), "--port", "0", "--rest-api-port", "0"]
    with tempfile.TemporaryDirectory() as elsewhere:
        child = subprocess.Popen(
            [*command, "--drain-sec", "1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=elsewhere,
        )
        try:
            grpc_port, rest_port = _wait_for_ports(child, timeout_sec)
            yield f"http://127.0.0.1:{rest_port}" if rest else f"127.0.0.1:{grpc_port}"
        finally:
            _stop(child)


def _wait_for_ports(child: "subprocess.Popen[str]", timeout_sec: float) -> tuple[int, int]:
    """Return the ports of gRPC and of REST."""
    lines: list[str] = []
    # Reads to the end, so that a full pipe does not block the child.
    reader = threading.Thread(target=lambda: lines.extend(child.stderr or ()), daemon=True)
    reader.start()
    deadline_sec = time.monotonic() + timeout_sec
    while time.monotonic() < deadline_sec:
        if ports := _LISTENING.search("".join(lines)):
            return int(ports[1]), int(ports[2])
        if child.poll() is not None:
            reader.join(_STOP_SEC)
            raise CannotServe(f"the server ended with status {child.returncode}: {_end_of(lines)}")
        time.sleep(_POLL_SEC)
    raise CannotServe(f"the server did not load the model within {timeout_sec:g} s: {_end_of(lines)}")


def _end_of(lines: list[str]) -> str:
    return "".join(lines[-_KEPT_LINES:]).strip() or "its log is empty"


def _stop(child: "subprocess.Popen[str]") -> None:
    child.terminate()
    try:
        child.wait(_STOP_SEC)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
