"""The folder that a local run leaves everything in."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

SERVING_DIR = "serving"
LOG_FILE = "run.log"


class RootInUse(RuntimeError):
    """Another run works in the same root."""


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Holds ``root`` for one run.

    Raises:
        RootInUse: Another run holds it. A killed run holds nothing.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RootInUse(
                f"another run works in {root}: wait for it, or give this one a folder of its own with --root"
            ) from None
        yield
