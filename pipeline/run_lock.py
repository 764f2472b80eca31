"""Output folder of a local run, and its lock."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from modules.common.errors import SerError
from modules.common.files import require_lock

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
        in_use = f"another run uses {root}; wait until it has ended, or give another folder with --root"
        require_lock(lock, RootInUse(in_use))
        yield
