"""Processes in a network of their own: ``isolated.py PROCESSES.JSON``, as :func:`command` starts it.

They communicate on its loopback, and the addresses that they bind to are not reachable from outside. TFX's Tuner and
Beam's runner for worker processes bind to all addresses.

A process is ``{"command": […], "environ": {…}}``. The command ends when all have ended, or with the status of the
first that fails. A service outside is reached at its own port of loopback, where it also listens on a Unix socket:
those are files, and belong to no network.
"""

import contextlib
import fcntl
import functools
import json
import os
import select
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_UNSHARE = ("unshare", "--map-root-user", "--net")
# <linux/sockios.h>, <linux/if.h>
_SIOCSIFFLAGS = 0x8914
_IFF_UP, _IFF_RUNNING = 0x1, 0x40


def can_isolate() -> bool:
    """Return whether a process may have a network of its own on this machine."""
    return bool(shutil.which(_UNSHARE[0])) and subprocess.run([*_UNSHARE, "true"], check=False).returncode == 0


def command(processes: list[dict[str, Any]], described: Path, sockets: Mapping[int, str] | None = None) -> list[str]:
    """Return the command that starts the processes.

    Args:
        processes: As above.
        described: A file for their description.
        sockets: Path of the Unix socket of each port that the processes may reach.
    """
    described.write_text(json.dumps({"processes": processes, "sockets": sockets or {}}))
    return [*_UNSHARE, sys.executable, __file__, str(described)]


def main(path: str) -> int:
    """Run the processes of a file and return the status."""
    described = json.loads(Path(path).read_text())
    _raise_loopback()
    with contextlib.ExitStack() as forwarding:
        for port, socket_path in described["sockets"].items():
            forwarding.enter_context(tcp_server(int(port), functools.partial(_Forward, socket_path)))
        return _run(described["processes"])


def _run(described: list[dict[str, Any]]) -> int:
    processes = [
        subprocess.Popen(process["command"], env=os.environ | process["environ"], start_new_session=True)
        for process in described
    ]
    working = {process.pid for process in processes}
    failed = 0
    while working and not failed:
        pid, status = os.wait()
        working.discard(pid)
        failed = os.waitstatus_to_exitcode(status)
    for pid in working:
        os.killpg(pid, signal.SIGKILL)
    return failed if failed >= 0 else 128 - failed  # of a process that a signal ended, as a shell gives it


class _Forward(socketserver.BaseRequestHandler):
    def __init__(self, path: str, *arguments: Any) -> None:
        self._path = path
        super().__init__(*arguments)

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(self._path)
            pipe(self.request, upstream)


def pipe(left: socket.socket, right: socket.socket) -> None:
    """Forward data in both directions until one side closes."""
    with contextlib.suppress(OSError):
        for side in (left, right):
            if side.family != socket.AF_UNIX:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each short answer waits for 40 ms
        while True:
            for readable in select.select([left, right], [], [])[0]:
                received = readable.recv(65536)
                if not received:
                    return
                (right if readable is left else left).sendall(received)


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def tcp_server(port: int, handler: Any) -> Iterator[socketserver.BaseServer]:
    """Serve on a port of loopback."""
    with _TcpServer(("127.0.0.1", port), handler) as server, _serving(server):
        yield server


@contextlib.contextmanager
def unix_server(path: str, handler: Any) -> Iterator[socketserver.BaseServer]:
    """Serve on a Unix socket."""
    with _UnixServer(path, handler) as server, _serving(server):
        yield server


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()


def _raise_loopback() -> None:
    with socket.socket() as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP | _IFF_RUNNING))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
