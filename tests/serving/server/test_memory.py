import gc
import subprocess
import sys
import weakref

import numpy as np

from serving.server import memory


class Node:
    """An object that refers to itself, as the parts of a graph do."""

    def __init__(self):
        self.itself = self


def test_objects_in_cycles_are_collected():
    gc.disable()
    try:
        node = weakref.ref(Node())
        assert node() is not None
        memory.give_back()
        assert node() is None
    finally:
        gc.enable()


def test_free_blocks_return_to_the_operating_system():
    """Small blocks stay in the allocator's arenas otherwise, since a block above them is in use."""
    script = """
import numpy as np
from serving.server import memory

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

blocks = [np.ones(2_000, np.float64) for _ in range(20_000)]
kept = blocks[-1]
full = resident_mib()
del blocks
memory.give_back()
print(full - resident_mib())
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert float(done.stdout) > 250


def test_imported_objects_are_not_searched_again():
    before = gc.get_freeze_count()
    memory.exclude_imported_objects()
    try:
        assert gc.get_freeze_count() > before
        assert not any(isinstance(each, np.ufunc) for each in gc.get_objects())
    finally:
        gc.unfreeze()
