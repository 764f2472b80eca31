"""Memory of unloaded versions, given back to the operating system.

A version's graph is Python objects that refer to each other, and TensorFlow's large blocks are spread over the
allocator's arenas: without these functions a server that reloads every hour grows for a day before it settles.
"""

import ctypes
import gc

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl and macOS do not


def exclude_imported_objects() -> None:
    """Make collections short: what exists now, mostly imported modules, is not searched again."""
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Collect unreachable objects, and return free memory to the operating system."""
    gc.collect()
    if _TRIM:
        _TRIM(0)
