"""What ``ser serve`` asks of the kernel and the C library; each in a process of its own, for which it is meant."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

# Takes 64 MiB in blocks and leaves them again, as a batch does; says how often the kernel had to give a page for it.
ROUNDS_OF_A_MODEL = """
import ctypes, resource, sys
from serving.server.process import tune_process

if sys.argv[1] == "tuned":
    tune_process()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def work():
    taken = [libc.malloc(4 << 20) for _ in range(16)]
    for address in taken:
        ctypes.memset(address, 1, 4 << 20)
    for address in taken:
        libc.free(address)

work()
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def output_of(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )


def test_memory_that_a_request_has_left_serves_the_next():
    untuned, tuned = (int(output_of(ROUNDS_OF_A_MODEL, mode).stdout) for mode in ("untuned", "tuned"))
    assert tuned < untuned / 10  # how large the pages are is the kernel's choice


def test_threads_that_wake_up_wait_for_their_turn():
    code = """
import os, threading
from serving.server.process import tune_process

tune_process()
thread = threading.Thread(target=lambda: print(os.sched_getscheduler(threading.get_native_id()) == os.SCHED_BATCH))
thread.start()
"""
    assert output_of(code).stdout.strip() == "True"
