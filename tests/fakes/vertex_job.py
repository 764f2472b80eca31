"""Runs the replicas of a CustomJob as processes: ``vertex_job.py REPLICAS.JSON``, in a network of its own.

A replica is ``{"command": […], "environ": {…}}``. Ends when all have ended, or when the first fails, with status 1.
"""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

# <linux/sockios.h>, <linux/if.h>
_SIOCSIFFLAGS = 0x8914
_IFF_UP, _IFF_RUNNING = 0x1, 0x40


def main(path: str) -> int:
    """Returns the job's status."""
    _raise_loopback()
    replicas = [
        subprocess.Popen(replica["command"], env=os.environ | replica["environ"], start_new_session=True)
        for replica in json.loads(Path(path).read_text())
    ]
    working = {replica.pid for replica in replicas}
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
