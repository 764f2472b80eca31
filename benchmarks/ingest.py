"""Ingest throughput on the same clips: ``python -m benchmarks.ingest [--data DIR] [--clips N]``.

The candidates do the same work: read the files, cut the window, make the four default variants of every training
clip, extract the 270 features. Ours is the ExampleGen's executor on Beam, writing included; the other is librosa in a
pool of processes, as such features are usually computed. Each runs in a process of its own, with one core for each
worker; starting it and its first few clips are not counted.
"""

import argparse
import atexit
import functools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import command, document
from components.audio_example_gen.corpora import identify
from components.audio_example_gen.settings import IngestSettings
from modules.audio import formats
from modules.audio.augmentation import PLAIN, augment
from modules.data.clips import Clip
from modules.data.splits import TRAIN, assign
from pipeline.config import load_config

CANDIDATES = ("librosa", "ours")
WORKERS = (1, 2)
WARM_UP_CLIPS = 16

Work = tuple[Clip, bool]


def choose(data: Path, clips: int, settings: IngestSettings) -> list[Work]:
    """Return clips spread over the speakers in ``data``, and whether each is for training."""
    paths = [path.relative_to(data).as_posix() for path in data.rglob("*") if formats.is_readable(path.name)]
    identified = identify(paths, read_text=lambda path: (data / path).read_text(), labels=settings.labels).clips
    step = max(1, len(identified) // clips)
    chosen = identified[::step][:clips]
    split_of = assign(chosen, settings.splits)
    return [(clip, split_of[clip.clip_id] == TRAIN) for clip in chosen]


def prepare_ours(data: Path, chosen: list[Work], settings: IngestSettings, workers: int) -> Callable[[], None]:
    """Link the clips into a new folder and return a function that runs the executor on it."""
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import standard_artifacts

    from components.audio_example_gen.component import AudioExampleGen
    from components.audio_example_gen.executor import Executor

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for clip, _ in chosen:
        link = folder / "data" / clip.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((data / clip.path).resolve())
    component = AudioExampleGen(input_base=str(folder / "data"), settings=settings)
    mode = "in_memory" if workers == 1 else "multi_threading"
    beam_args = ["--runner=FnApiRunner", f"--direct_running_mode={mode}", f"--direct_num_workers={workers}"]

    def run() -> None:
        examples = standard_artifacts.Examples()
        examples.uri = str(folder / "examples")
        context = BaseBeamExecutor.Context(beam_pipeline_args=[*beam_args, "--sdk_container_image=unused"])
        Executor(context).Do({}, {"examples": [examples]}, component.exec_properties)
        shutil.rmtree(examples.uri)

    return run


def prepare_librosa(data: Path, chosen: list[Work], settings: IngestSettings, workers: int) -> Callable[[], None]:
    """Start the processes with their imports and return a function that extracts the features."""
    pool = multiprocessing.get_context("spawn").Pool(workers)
    extract = functools.partial(extract_with_librosa, data=data, settings=settings)
    pool.map(extract, chosen[: 4 * workers], chunksize=1)

    def run() -> None:
        pool.map(extract, chosen, chunksize=4)

    return run


def extract_with_librosa(work: Work, *, data: Path, settings: IngestSettings) -> None:
    """Load one clip, augment it if it is for training, and extract every variant by five calls."""
    import librosa

    from benchmarks.extraction import five_calls

    clip, is_training = work
    spec = settings.audio
    window, _ = librosa.load(
        data / clip.path, sr=spec.sample_rate_hz, offset=spec.window_offset_sec, duration=spec.window_sec
    )
    variants = [(PLAIN, window, len(window))]
    if is_training:
        variants = list(
            augment(
                window,
                valid_samples=len(window),
                sample_rate_hz=spec.sample_rate_hz,
                settings=settings.augmentation,
                seed=settings.seed,
                clip_id=clip.clip_id,
            )
        )
    for _, samples, _ in variants:
        five_calls(samples, spec)


def clips_per_sec(candidate: str, data: Path, clips: int, workers: int) -> float:
    """Return the throughput of one candidate in this process."""
    settings = load_config(overrides=["training.family=original_cnn"]).ingest_settings
    chosen = choose(data, clips, settings)
    prepare = {"ours": prepare_ours, "librosa": prepare_librosa}[candidate]
    if candidate == "ours":
        prepare(data, choose(data, WARM_UP_CLIPS, settings), settings, workers)()
    run = prepare(data, chosen, settings, workers)
    start_sec = time.perf_counter()
    run()
    return len(chosen) / (time.perf_counter() - start_sec)


def measure_in_process(candidate: str, data: Path, clips: int, workers: int) -> float:
    """Return :func:`clips_per_sec` of a new process on ``workers`` cores."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:workers]))
    arguments = [sys.executable, "-m", "benchmarks.ingest", "--data", str(data), "--clips", str(clips)]
    process = subprocess.run(
        ["taskset", "--cpu-list", cores, *arguments, "--candidate", candidate, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "0", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    return json.loads(process.stdout.splitlines()[-1])


def main() -> None:
    """Time the candidates and print the table."""
    parser = command.make_parser(__doc__)
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=1, help="rounds in alternation; the medians are compared")
    parser.add_argument("--candidate", choices=CANDIDATES, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.candidate:
        print(json.dumps(clips_per_sec(options.candidate, options.data, options.clips, options.workers)))
        return
    pairs = [(candidate, workers) for workers in WORKERS for candidate in CANDIDATES]
    measured: dict[tuple[str, int], list[float]] = {pair: [] for pair in pairs}
    for _ in range(options.rounds):
        for candidate, workers in pairs:
            measured[candidate, workers].append(measure_in_process(candidate, options.data, options.clips, workers))
    command.publish({"ingest": to_markdown(measured, clips=options.clips)}, options.write)


def to_markdown(speeds: Mapping[tuple[str, int], Sequence[float]], *, clips: int) -> str:
    """Return the table and its scope.

    Args:
        clips: Number of clips.
        speeds: Clips per second in each round, by candidate and number of workers.
    """
    heads = ["", "workers", "clips per second (rounds)", "x librosa with as many", "x 1 worker"]
    medians = {pair: statistics.median(rounds) for pair, rounds in speeds.items()}
    lines = [
        [
            candidate,
            str(workers),
            f"{medians[candidate, workers]:.0f} ({', '.join(f'{speed:.0f}' for speed in rounds)})",
            f"{medians[candidate, workers] / medians['librosa', workers]:.1f}",
            f"{medians[candidate, workers] / medians[candidate, 1]:.2f}",
        ]
        for (candidate, workers), rounds in speeds.items()
    ]
    return document.table(heads, lines) + f"\n{clips} clips, four variants of each."


if __name__ == "__main__":
    main()
