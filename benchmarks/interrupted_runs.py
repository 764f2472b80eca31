"""What a killed run and a full disk leave behind: rows of :mod:`benchmarks.reliability`.

The runs are those of ``runner_local.py`` on a small corpus, with the small network and few epochs.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from modules.common.errors import SerError
from modules.export import manifest

PROJECT = Path(__file__).parents[1]
OVERRIDES = ("training.family=attentive_crnn", "training.epochs=2", "gate.override=reliability: only to see it pushed")
STARTED = re.compile(r"\[ *(\d+)/(\d+)\] (\w+)")
DISK_MIB = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
FULL = "No space left on device"


class Outcome(NamedTuple):
    """What became of runs.

    Attributes:
        tried: Number of interrupted runs.
        half_written: Versions below ``serving`` whose files are not those of their manifest.
        unclear: Interrupted runs with a traceback, or without the cause in the message.
        completed: Whether the run after them pushed a version.
    """

    tried: int
    half_written: int
    unclear: int
    completed: bool


def kill_at_each_component(data: Path) -> Outcome:
    """Send SIGKILL as soon as a component starts, one component after the other in the same root, then run again.

    Args:
        data: Folder of recordings.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tried = half_written = 0
        while _killed_at(tried + 1, data, root):
            tried += 1
            half_written += _half_written(root)
        return Outcome(tried, half_written, 0, _pushed(root))


def _killed_at(number: int, data: Path, root: Path) -> bool:
    """Run until the component of that number starts, and kill the run; return False if it ended before."""
    with subprocess.Popen(_command(data, root), cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if (started := STARTED.match(line)) and int(started[1]) == number:
                process.send_signal(signal.SIGKILL)
                process.stderr.read()
                return True
    return False


def fill_the_disk(data: Path) -> Outcome:
    """Run in a root on a disk that is too small, enlarge the disk, and run again until a run completes.

    The disk is a file system in memory, in a mount namespace of its own: ``unshare`` has to be allowed.

    Args:
        data: Folder of recordings.
    """
    arguments = [sys.executable, "-m", __name__, str(data)]
    inside = ["unshare", "--map-root-user", "--mount", *arguments]
    done = subprocess.run(inside, cwd=PROJECT, check=True, capture_output=True, text=True)
    tried, half_written, unclear, completed = map(int, done.stdout.split()[-4:])
    return Outcome(tried, half_written, unclear, bool(completed))


def _fill(data: Path, root: Path) -> Outcome:
    """Do the work of :func:`fill_the_disk` where mounting is allowed."""
    tried = half_written = unclear = 0
    for size_mib in DISK_MIB:
        options = f"size={size_mib}m" if not tried else f"remount,size={size_mib}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(root)], check=True)
        done = subprocess.run(_command(data, root), cwd=PROJECT, capture_output=True, text=True)
        if done.returncode == 0:
            return Outcome(tried, half_written, unclear, _pushed(root))
        tried += 1
        half_written += _half_written(root)
        if "Traceback" in done.stderr or FULL not in done.stderr + done.stdout:
            print(f"{size_mib} MiB: {done.stderr[-2_000:]}", file=sys.stderr)
            unclear += 1
    return Outcome(tried, half_written, unclear, completed=False)


def _command(data: Path, root: Path) -> list[str]:
    overrides = [word for override in OVERRIDES for word in ("--set", override)]
    return [sys.executable, "runner_local.py", "--data", str(data), "--root", str(root), *overrides]


def _versions(root: Path) -> Iterator[Path]:
    return (path for path in (root / "serving").glob("*") if path.name.isdigit())


def _pushed(root: Path) -> bool:
    return any(_versions(root)) and not _half_written(root)


def _half_written(root: Path) -> int:
    """Return the number of versions that a server would load and whose files are not all there."""
    count = 0
    for version in _versions(root):
        try:
            manifest.require_intact(str(version))
        except (SerError, OSError):
            count += 1
    return count


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(*map(int, _fill(Path(sys.argv[1]), Path(folder))))
        os.chdir("/")
        subprocess.run(["umount", "--lazy", folder], check=False)
