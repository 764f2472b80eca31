"""Settings of the process that a server has to itself. What they are worth: docs/serving.md, "How fast"."""

import contextlib
import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h
_KEPT_BYTES = 256 * 1024 * 1024
_LARGEST_KEPT_BYTES = 32 * 1024 * 1024  # the most that glibc takes


def tune_process() -> None:
    """For throughput; to be called before the threads start that it concerns."""
    _keep_freed_memory()
    _let_models_run_on()


def _keep_freed_memory() -> None:
    """Sounds and what the model computes of them are large: malloc would ask the kernel for fresh pages every time."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def _let_models_run_on() -> None:
    """A thread that wakes up, as for a packet, waits for its turn instead of pushing another from its core.

    On a core that is free it starts as fast as ever. Where the model has all of them, several requests are received in
    one go, and neither they nor the model find the core's caches emptied by the other as often.
    """
    with contextlib.suppress(OSError):  # some sandboxes know no such policy; the server then is a little slower
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
