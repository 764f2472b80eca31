"""Worker processes of Beam's local runner."""

import subprocess
import time

import psutil


def worker_processes(process: subprocess.Popen) -> list[psutil.Process]:
    """Return the Python processes of Beam's workers below a process, without their shells."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if {"-m", "apache_beam.runners.worker.sdk_worker_main"} <= {*_command(child)}]


def wait_for_workers(process: subprocess.Popen) -> list[psutil.Process]:
    """Wait until a process has workers, and return them."""
    deadline = time.monotonic() + 300
    while not (workers := worker_processes(process)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return workers


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []
