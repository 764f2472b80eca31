"""Addresses on which this process and its descendants listen."""

import contextlib
import ipaddress
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"  # <net/tcp_states.h>
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_EVERY_SEC = 0.5
_STARTS_WITHIN_SEC = 180


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
    """Yield the addresses on which processes listen during the context.

    Processes in a network of their own (:mod:`tests.fakes.isolated`) are not included: they cannot be reached.
    """
    addresses: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY_SEC):
            addresses.update(listening())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield addresses
    finally:
        ended.set()
        watcher.join()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process that was just started listens on a port of loopback."""
    end = time.monotonic() + _STARTS_WITHIN_SEC
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args} does not listen on port {port}; its log has the reason")


def listening() -> set[str]:
    """Return the addresses on which this process and its descendants listen now."""
    own = set().union(*map(_sockets, _descendants(os.getpid())))
    return {address for inode, address in _listeners() if inode in own}


def _listeners() -> Iterator[tuple[str, str]]:
    """Yield socket and address of every listener in this network."""
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):  # no IPv6 here
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    yield fields[9], str(_address(fields[1].partition(":")[0]))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Linux writes each 32 bits of an address as a number, in the machine's order of bytes."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return getattr(address, "ipv4_mapped", None) or address


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _descendants(int(child))


def _sockets(pid: int) -> set[str]:
    sockets = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if socket := _SOCKET.fullmatch(os.readlink(f"/proc/{pid}/fd/{descriptor}")):
                    sockets.add(socket[1])
    return sockets
