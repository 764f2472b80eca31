"""Ingest throughput of each family on the same clips: ``python -m benchmarks.ingest [--data DIR] [--clips N]``.

Ours is the ExampleGen's executor on Beam, with the family's own settings, writing included; the other is librosa in a
pool of processes, as such features are usually computed, from the same windows and variants. librosa has nothing to
compare with an encoder. Each measurement runs in a process of its own, with one core for each worker, on a part of the
clips and on all: the difference has no share of the start.
"""

import argparse
import atexit
import functools
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks import command, document
from components.audio_example_gen.corpora import identify
from components.audio_example_gen.ingestion import EXAMPLES_PER_BATCH
from components.audio_example_gen.settings import IngestSettings
from modules.audio import formats
from modules.audio.augmentation import PLAIN, augment
from modules.data.clips import Clip
from modules.data.splits import TRAIN, assign
from pipeline.config import load_config

FAMILIES = ("encoder_cnn", "attentive_crnn", "original_cnn")
ONE, THREADS, PROCESSES = "1 worker", "2 threads", "2 processes"
BEAM_MODES = {ONE: "in_memory", THREADS: "multi_threading", PROCESSES: "multi_processing"}
WORKERS = {ONE: 1, THREADS: 2, PROCESSES: 2}
LIBRARY = "librosa"
PART = 4
"""The first measurement is of this part of the clips."""

Work = tuple[Clip, bool]


def choose(data: Path, clips: int, settings: IngestSettings) -> list[Work]:
    """Return clips spread over the speakers in ``data``, and whether each is for training."""
    paths = [path.relative_to(data).as_posix() for path in data.rglob("*") if formats.is_readable(path.name)]
    identified = identify(paths, read_text=lambda path: (data / path).read_text(), labels=settings.labels).clips
    step = max(1, len(identified) // clips)
    chosen = identified[::step][:clips]
    split_of = assign(chosen, settings.splits)
    return [(clip, split_of[clip.clip_id] == TRAIN) for clip in chosen]


def prepare_ours(data: Path, chosen: list[Work], settings: IngestSettings, how: str) -> Callable[[], None]:
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
    mode = f"--direct_running_mode={BEAM_MODES[how]}"
    beam_args = ["--runner=FnApiRunner", mode, f"--direct_num_workers={WORKERS[how]}"]

    def run() -> None:
        examples = standard_artifacts.Examples()
        examples.uri = str(folder / "examples")
        context = BaseBeamExecutor.Context(beam_pipeline_args=[*beam_args, "--sdk_container_image=unused"])
        Executor(context).Do({}, {"examples": [examples]}, component.exec_properties)
        shutil.rmtree(examples.uri)

    return run


def prepare_librosa(data: Path, chosen: list[Work], settings: IngestSettings, how: str) -> Callable[[], None]:
    """Start the processes with their imports and return a function that extracts the features."""
    context = multiprocessing.get_context("spawn")
    extract = functools.partial(extract_with_librosa, data=data, settings=settings)
    ready = context.Barrier(WORKERS[how] + 1)
    pool = context.Pool(WORKERS[how], warm_up, (extract, chosen[0], ready))
    ready.wait()

    def run() -> None:
        pool.map(extract, chosen, chunksize=4)

    return run


def warm_up(extract: Callable[[Work], None], work: Work, ready: Barrier) -> None:
    """Extract once in a new process, with the imports that this needs, and wait for the other processes."""
    extract(work)
    ready.wait()


def extract_with_librosa(work: Work, *, data: Path, settings: IngestSettings) -> None:
    """Load one clip, augment it if it is for training, and extract every variant."""
    import librosa

    from benchmarks.extraction import five_calls, log_mel_by_librosa, mel_spec

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
        if spec.feature_family == "utterance":
            five_calls(samples, spec)
        else:
            log_mel_by_librosa(samples, mel_spec(spec))


def clips_per_sec(family: str, candidate: str, how: str, data: Path, clips: int) -> float:
    """Return the throughput in this process, without the start of the workers."""
    settings = load_config(overrides=[f"training.family={family}"]).ingest_settings
    chosen = choose(data, clips, settings)
    part = chosen[::PART]
    prepare = prepare_librosa if candidate == LIBRARY else prepare_ours
    first = chosen[:: max(1, len(chosen) // (WORKERS[how] * EXAMPLES_PER_BATCH))]  # of several emotions
    prepare(data, first, settings, how)()
    seconds = [_seconds(prepare(data, some, settings, how)) for some in (part, chosen)]
    return (len(chosen) - len(part)) / (seconds[1] - seconds[0])


def _seconds(run: Callable[[], None]) -> float:
    start_sec = time.perf_counter()
    run()
    return time.perf_counter() - start_sec


def measure_in_process(family: str, candidate: str, how: str, options: argparse.Namespace) -> float:
    """Return :func:`clips_per_sec` of a new process with a core for each worker."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: WORKERS[how]]))
    arguments = ["--data", str(options.data), "--clips", str(options.clips), "--measure", family, candidate, how]
    process = subprocess.run(
        ["taskset", "--cpu-list", cores, sys.executable, "-m", "benchmarks.ingest", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "0", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    return json.loads(process.stdout.splitlines()[-1])


def planned(families: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield family, candidate and workers of each measurement."""
    for family, how in itertools.product(families, WORKERS):
        if family != "encoder_cnn" and how != THREADS:
            yield family, LIBRARY, how
        yield family, "ours", how


def main() -> None:
    """Time the candidates and print the table."""
    parser = command.make_parser(__doc__)
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=1, help="rounds in alternation; the medians are compared")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        family, candidate, how = options.measure
        print(json.dumps(clips_per_sec(family, candidate, how, options.data, options.clips)))
        return
    measured: dict[tuple[str, str, str], list[float]] = {each: [] for each in planned(options.families)}
    for _ in range(options.rounds):
        for each, speeds in measured.items():
            speeds.append(measure_in_process(*each, options))
    medians = {each: statistics.median(speeds) for each, speeds in measured.items()}
    command.publish({"ingest": to_markdown(medians, clips=options.clips, rounds=options.rounds)}, options.write)


def to_markdown(speeds: Mapping[tuple[str, str, str], float], *, clips: int, rounds: int) -> str:
    """Return the table and its scope.

    Args:
        speeds: Clips per second by family, candidate and workers.
        clips: Number of clips.
        rounds: Number of rounds.
    """
    heads = ["family, by", "workers", "clips per second", "x 1 worker", "x librosa"]
    rows = []
    for (family, candidate, how), speed in speeds.items():
        library = speeds.get((family, LIBRARY, how))
        compared = f"{speed / library:.1f}" if library else ""
        scaling = f"{speed / speeds[family, candidate, ONE]:.2f}"
        rows.append([f"`{family}`, {candidate}", how, f"{speed:.1f}", scaling, compared])
    return document.table(heads, rows) + f"\n{clips} clips, medians of {rounds} rounds."


if __name__ == "__main__":
    main()
