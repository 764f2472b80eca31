"""Output folder of a local run, and its lock."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from modules.common.errors import SerError

SERVING_DIR = "serving"
LOG_FILE = "run.log"


class RootInUse(SerError, RuntimeError):
    """Another run uses the same output folder."""

    code = "run.root_in_use"


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Lock ``root`` for one run. The lock of a killed run is released by the system.

    Args:
        root: Output folder; created if missing.

    Raises:
        RootInUse: Another run holds the lock.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RootInUse(
                f"another run uses {root}; wait until it has ended, or give another folder with --root"
            ) from None
        yield
