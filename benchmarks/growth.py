"""Time and memory at growing numbers of recordings: ``python -m benchmarks.growth [--clips N ...]``.

``runner_local.py`` runs on synthetic corpora of half-second tones in noise, of 50 recordings a speaker, with plain
copies alone, a small network of ``attentive_crnn`` and one epoch. The process and its children are sampled: CPU time
of all of them, since other work on the machine does not change it, and the sum of their proportional set sizes, which
counts shared pages once. Then functions that see all recordings at once are timed alone
(:mod:`benchmarks.growth_functions`), at numbers that a run would take hours for.
"""

import collections
import csv
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import soundfile

from benchmarks import command, document, growth_functions
from benchmarks.memory import NETWORK
from components.audio_example_gen.corpora import manifest
from modules.data.labels import EMOTIONS

CLIPS = (1_000, 10_000)
SPEAKER_CLIPS = 50
RATE_HZ = 16_000
DURATION_SEC = 0.5
SETTINGS = ("training.family=attentive_crnn", "training.epochs=1", f"training.hyperparameters={NETWORK}")
EVERY_SEC = 0.5
RUNNER = "the runner itself"

_STARTED = re.compile(r"\[ *\d+/\d+\] (\w+)")  # as pipeline.progress prints it
_FINISHED = re.compile(r" +(done in|nothing changed)")


class Cost:
    """CPU time in seconds and peak memory in MiB of a component."""

    def __init__(self) -> None:
        """Start at zero."""
        self.cpu_sec = self.peak_mib = 0.0


def write_corpus(folder: Path, clips: int) -> None:
    """Write recordings, all different, and their manifest.

    Args:
        folder: Existing folder.
        clips: Number of recordings.
    """
    seconds = np.arange(int(DURATION_SEC * RATE_HZ)) / RATE_HZ
    with (folder / manifest.FILE_NAME).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "emotion", "speaker"])
        for number in range(clips):
            speaker, emotion = number // SPEAKER_CLIPS, number % len(EMOTIONS)
            path = Path(f"{speaker:05}", f"{number:07}.wav")
            (folder / path.parent).mkdir(exist_ok=True)
            tone = np.sin(2 * np.pi * (200 + 100 * emotion) * seconds)
            noise = np.random.default_rng(number).standard_normal(len(seconds))
            soundfile.write(folder / path, 0.2 * tone + 0.05 * noise, RATE_HZ, subtype="PCM_16")
            rows.writerow([path, EMOTIONS[emotion], speaker])


def measure(clips: int, folder: Path) -> dict[str, Cost]:
    """Run the pipeline on a synthetic corpus and return the cost of each component, in their order.

    Args:
        clips: Number of recordings.
        folder: Folder of corpus and output, empty.

    Raises:
        subprocess.CalledProcessError: The run failed.
    """
    data = folder / "data"
    data.mkdir()
    write_corpus(data, clips)
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    arguments = [sys.executable, "runner_local.py", "--data", str(data), "--root", str(folder / "output"), *settings]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        costs = watch(process)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return costs


def watch(process: subprocess.Popen[str]) -> dict[str, Cost]:
    """Sample a run until it ends; return the cost of each component, and of the time between components.

    Args:
        process: The run, whose standard error is a pipe.
    """
    running = [RUNNER]
    reader = threading.Thread(target=_follow, args=(process.stderr, running), daemon=True)
    reader.start()
    costs: dict[str, Cost] = collections.defaultdict(Cost)
    tree, before_sec = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        component = running[0]
        cpu_sec, mib = _sample(tree)
        costs[component].cpu_sec += max(0.0, cpu_sec - before_sec)
        costs[component].peak_mib = max(costs[component].peak_mib, mib)
        before_sec = max(before_sec, cpu_sec)
        time.sleep(EVERY_SEC)
    reader.join()
    return dict(costs)


def _follow(lines: IO[str] | None, running: list[str]) -> None:
    """Keep the name of the running component in ``running``, and show the run's progress."""
    for line in lines or ():
        print(line, end="", file=sys.stderr)
        if started := _STARTED.match(line):
            running[0] = started[1]
        elif _FINISHED.match(line):
            running[0] = RUNNER


def _sample(root: psutil.Process) -> tuple[float, float]:
    """Return CPU time so far in seconds and memory in MiB of a process and its children, also those that ended."""
    cpu_sec = mib = 0.0
    for process in _with_children(root):
        try:
            cpu_sec += sum(process.cpu_times()[:4])  # its own, and that of children that it waited for
            mib += process.memory_full_info().pss / 2**20
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it just ended
            continue
    return cpu_sec, mib


def _with_children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def runs_table(measured: Mapping[int, Mapping[str, Cost]]) -> str:
    """Return the table of runs: a row for each component, a column for each number of recordings.

    Components that take less than :data:`EVERY_SEC` are left out, since samples miss them.

    Args:
        measured: Cost of each component by number of recordings, growing.
    """
    names = dict.fromkeys(name for costs in measured.values() for name in costs)
    rows = [(name, [costs.get(name, Cost()) for costs in measured.values()]) for name in names]
    heads = ["CPU s / MiB", *(f"{clips:,}" for clips in measured), "x CPU"]
    cells = [
        [name, *map(_cell, costs), _growth(costs)]
        for name, costs in rows
        if max(cost.cpu_sec for cost in costs) >= EVERY_SEC
    ]
    return document.table(heads, cells)


def _cell(cost: Cost) -> str:
    return f"{cost.cpu_sec:,.1f} / {cost.peak_mib:,.0f}"


def _growth(costs: Sequence[Cost]) -> str:
    return f"{costs[-1].cpu_sec / costs[0].cpu_sec:.1f}" if costs[0].cpu_sec else ""


def functions_table(clips: Sequence[int], names: Iterable[str]) -> str:
    """Return the table of functions in CPU milliseconds, measured here; a dash where a number is too large for one.

    Args:
        clips: Numbers of recordings.
        names: Names of the functions.
    """
    rows = []
    for name in names:
        cells = [growth_functions.cpu_seconds(name, number) for number in clips]
        rows.append([name, *("\u2013" if cell is None else f"{1000 * cell:,.0f}" for cell in cells)])
        print(*rows[-1], sep="\t", file=sys.stderr)
    return document.table(["CPU ms", *(f"{number:,}" for number in clips)], rows)


def main() -> None:
    """Print or write both tables."""
    parser = command.make_parser_without_data(__doc__)
    parser.add_argument("--clips", type=int, nargs="*", default=CLIPS, help="recordings of each run")
    parser.add_argument(
        "--function-clips", type=int, nargs="*", default=growth_functions.CLIPS, help="recordings of each function"
    )
    options = parser.parse_args()
    tables, measured = {}, {}
    for clips in options.clips:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            measured[clips] = measure(clips, Path(folder))
        print(runs_table(measured), file=sys.stderr)
    if measured:
        tables["runs"] = runs_table(measured)
    if options.function_clips:
        tables["functions"] = functions_table(options.function_clips, growth_functions.FUNCTIONS)
    command.publish(tables, options.write)


if __name__ == "__main__":
    main()
