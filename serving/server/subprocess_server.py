"""The project's server as a child process that never outlives the question."""

import contextlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

# The child asks Linux to be killed when this process is: a killed run leaves no server behind.
_SERVE = """
import ctypes, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
from cli.main import main
main()
"""
_LISTENING = re.compile(r"gRPC on port (\d+), REST and metrics on port (\d+)")
_POLL_SEC = 0.1
_STOP_SEC = 10.0
_KEPT_LINES = 15


class NotServing(RuntimeError):
    """The server did not come up; the message holds the end of what it said."""


@contextlib.contextmanager
def served(model_base_path: str, *, timeout_sec: float, rest: bool = False) -> Iterator[str]:
    """Address of a server for the versions below ``model_base_path``, on a free port of this machine.

    Args:
        rest: Yield the URL of the REST interface in place of the address for gRPC.

    Raises:
        NotServing: It ended, or no model was loaded in time.
    """
    command = [sys.executable, "-c", _SERVE, "serve", "--model-base-path", model_base_path]
    with tempfile.TemporaryDirectory() as elsewhere:
        child = subprocess.Popen(
            [*command, "--port", "0", "--rest-api-port", "0", "--drain-sec", "1"],
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
    """The ports of gRPC and of REST."""
    said: list[str] = []
    # To the end, so that the child never waits for someone to read.
    reader = threading.Thread(target=lambda: said.extend(child.stderr or ()), daemon=True)
    reader.start()
    deadline_sec = time.monotonic() + timeout_sec
    while time.monotonic() < deadline_sec:
        for found in map(_LISTENING.search, list(said)):
            if found:
                return int(found[1]), int(found[2])
        if child.poll() is not None:
            reader.join(_STOP_SEC)
            raise NotServing(f"the server ended with status {child.returncode}: {_end_of(said)}")
        time.sleep(_POLL_SEC)
    raise NotServing(f"the server did not load the model within {timeout_sec:g} s: {_end_of(said)}")


def _end_of(said: list[str]) -> str:
    return "".join(said[-_KEPT_LINES:]).strip() or "it said nothing"


def _stop(child: "subprocess.Popen[str]") -> None:
    child.terminate()
    try:
        child.wait(_STOP_SEC)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
