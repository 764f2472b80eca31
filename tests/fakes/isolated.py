"""Processes in a network of their own: ``isolated.py PROCESSES.JSON``, as :func:`command` starts it.

What they say to each other they say on its loopback, and whatever they bind to is heard nowhere else. TFX's Tuner and
Beam's runner for worker processes bind to every address there is.

A process is ``{"command": […], "environ": {…}}``. All is over when all have ended, or when the first fails, with
status 1.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

_UNSHARE = ("unshare", "--map-root-user", "--net")
# <linux/sockios.h>, <linux/if.h>
_SIOCSIFFLAGS = 0x8914
_IFF_UP, _IFF_RUNNING = 0x1, 0x40


def can_isolate() -> bool:
    """Whether this machine lets a process have a network of its own."""
    return bool(shutil.which(_UNSHARE[0])) and subprocess.run([*_UNSHARE, "true"], check=False).returncode == 0


def command(processes: list[dict[str, Any]], described: Path) -> list[str]:
    """What starts the processes; ``described`` is a file for their description."""
    described.write_text(json.dumps(processes))
    return [*_UNSHARE, sys.executable, __file__, str(described)]


def main(path: str) -> int:
    """Returns the status."""
    _raise_loopback()
    processes = [
        subprocess.Popen(process["command"], env=os.environ | process["environ"], start_new_session=True)
        for process in json.loads(Path(path).read_text())
    ]
    working = {process.pid for process in processes}
    failed = 0
    while working and not failed:
        pid, status = os.wait()
        working.discard(pid)
        failed = os.waitstatus_to_exitcode(status)
    for pid in working:
        os.killpg(pid, signal.SIGKILL)
    return 1 if failed else 0


def _raise_loopback() -> None:
    with socket.socket() as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP | _IFF_RUNNING))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
