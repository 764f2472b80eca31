"""Functions of the pipeline that see all recordings at once, with synthetic input, for :mod:`benchmarks.growth`."""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from components.audio_example_gen import data_version
from components.audio_example_gen.corpora import identify, manifest
from components.audio_example_gen.executor import make_shards
from components.audio_example_gen.files import Folder
from components.audio_example_gen.fingerprint import fingerprint
from components.audio_example_gen.ingestion import Outcome, find_duplicates
from components.audio_example_gen.report import Report
from modules.common.digest import file_digest
from modules.data.clips import Clip
from modules.data.dataset import Split
from modules.data.labels import EMOTIONS, SPLITS, LabelSettings
from modules.data.splits import SplitSettings, assign
from modules.drift import comparison as drift
from modules.drift.sample import Sample
from modules.drift.settings import DriftSettings
from modules.evaluation.acceptance.measure import SEX, of_predictions
from modules.evaluation.evaluate import evaluate
from modules.evaluation.intervals import Predictions
from modules.reporting import summary
from modules.reporting.write import write
from modules.training.batches import TrainingBatches
from pipeline.config import load_config

CLIPS = (1_000, 10_000, 100_000, 1_000_000)
SPEAKER_CLIPS = 10
SPAN_CLIPS = 1_000
BANDS = 128

Prepare = Callable[[int, Path], Callable[[], object]]
"""Function from a number of recordings and an empty folder to the call that is timed."""


class Function(NamedTuple):
    """A measured function, and the largest number of recordings that is quick enough."""

    prepare: Prepare
    most: int = CLIPS[-1]


def cpu_seconds(name: str, clips: int) -> float | None:
    """Return the CPU time of one call in seconds; None if the number of recordings is too large for it.

    Args:
        name: One of :data:`FUNCTIONS`.
        clips: Number of recordings.
    """
    function = FUNCTIONS[name]
    if clips > function.most:
        return None
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        call = function.prepare(clips, Path(folder))
        started_sec = time.process_time()
        call()
        return time.process_time() - started_sec


def make_clips(number: int) -> list[Clip]:
    """Return recordings of a speaker for each :data:`SPEAKER_CLIPS` of them.

    Args:
        number: Number of recordings.
    """
    return [
        Clip(
            path=f"{each // SPEAKER_CLIPS:06}/{each:07}.wav",
            corpus=manifest.ROOT_CORPUS,
            emotion=EMOTIONS[each % len(EMOTIONS)],
            speaker=f"{manifest.ROOT_CORPUS}-{each // SPEAKER_CLIPS}",
            sex=("female", "male")[each // SPEAKER_CLIPS % 2],
        )
        for each in range(number)
    ]


def _write_files(number: int, folder: Path) -> list[Clip]:
    clips = make_clips(number)
    for clip in clips:
        path = folder / clip.path
        path.parent.mkdir(exist_ok=True)
        path.write_text(clip.path)
    return clips


def _names(number: int, folder: Path) -> Callable[[], object]:
    clips = make_clips(number)
    rows = "\n".join(f"{clip.path},{clip.emotion},{clip.speaker}" for clip in clips)
    paths = [manifest.FILE_NAME, *(clip.path for clip in clips)]
    return lambda: identify(paths, read_text=lambda path: f"path,emotion,speaker\n{rows}", labels=LabelSettings())


def _listing(number: int, folder: Path) -> Callable[[], object]:
    _write_files(number, folder)
    return lambda: (Folder(str(folder), ("*", "*/*")).paths(), fingerprint("all", f"{folder}/*/*"))


def _version(number: int, folder: Path) -> Callable[[], object]:
    clips = _write_files(number, folder)
    version = data_version.DataVersion(
        root=str(folder),
        labels=LabelSettings(),
        clips={clip.path: clip for clip in clips},
        sha256={clip.path: file_digest(str(folder / clip.path)).sha256 for clip in clips},
    )
    return lambda: data_version.compare(version, str(folder))


def _splits(number: int, folder: Path) -> Callable[[], object]:
    clips = make_clips(number)
    return lambda: assign(clips, SplitSettings())


def _spans(number: int, folder: Path) -> Callable[[], object]:
    clips = make_clips(number)
    arrivals = [clips[start : start + SPAN_CLIPS] for start in range(0, number, SPAN_CLIPS)]
    return lambda: assign(clips, SplitSettings(), arrivals=arrivals)


def _shards(number: int, folder: Path) -> Callable[[], object]:
    clips, settings = make_clips(number), load_config().ingest_settings
    split_of = {clip.clip_id: SPLITS[0] for clip in clips}
    return lambda: list(make_shards(clips, split_of, settings))


def _outcomes(number: int, *, sounds: int) -> list[Outcome]:
    """Return outcomes of recordings that have ``sounds`` different sounds."""
    return [
        Outcome(clip=clip, split=SPLITS[each % 3], shard="0", digest=str(each % sounds), duration_sec=1, examples=1)
        for each, clip in enumerate(make_clips(number))
    ]


def _pairs(number: int, folder: Path) -> Callable[[], object]:
    outcomes = _outcomes(number, sounds=number // 2)
    return lambda: find_duplicates(outcomes)


def _one_sound(number: int, folder: Path) -> Callable[[], object]:
    outcomes = _outcomes(number, sounds=1)
    return lambda: find_duplicates(outcomes)


def _census(number: int, folder: Path) -> Callable[[], object]:
    outcomes = find_duplicates(_outcomes(number, sounds=number // 2))
    report = Report(
        root="", settings=load_config().ingest_settings, emotions=EMOTIONS, outcomes=outcomes, rejected=(), dropped={}
    )
    return lambda: report.write(str(folder))


def _order(number: int, folder: Path) -> Callable[[], object]:
    split = Split(
        features=np.zeros((number, 1), np.float32),
        valid_frames=np.ones(number, np.int32),
        emotion_ids=np.zeros(number, np.int32),
        speakers=np.full(number, "one"),
        corpora=np.full(number, "one"),
    )
    batches = TrainingBatches(split, batch_size=32, mixup=0.3, seed=0)
    return lambda: [batches[index] for index in range(len(batches))]


def make_predictions(number: int) -> tuple[list[Clip], np.ndarray, np.ndarray]:
    """Return recordings, their classes, int ``[number]``, and random probabilities, float64 ``[number, classes]``.

    Args:
        number: Number of recordings.
    """
    clips, random = make_clips(number), np.random.default_rng(0)
    labels = np.arange(number) % len(EMOTIONS)
    return clips, labels, random.dirichlet(np.ones(len(EMOTIONS)), number)


def _metrics(number: int, folder: Path) -> Callable[[], object]:
    clips, labels, probabilities = make_predictions(number)
    slices: Mapping[str, list[str]] = {"sex": [clip.sex for clip in clips]}
    speakers = [clip.speaker for clip in clips]
    return lambda: evaluate(labels, probabilities, speakers, classes=EMOTIONS, slices=slices)


def _acceptance(number: int, folder: Path) -> Callable[[], object]:
    clips, labels, probabilities = make_predictions(number)
    predictions = Predictions.of(labels, probabilities, [clip.speaker for clip in clips])
    return lambda: of_predictions(predictions, EMOTIONS, {SEX: [clip.sex for clip in clips]})


def _drift(number: int, folder: Path) -> Callable[[], object]:
    clips, values = make_clips(number), np.random.default_rng(0).normal(size=(number, BANDS))
    sample = Sample(
        values=values,
        names=tuple(map(str, range(BANDS))),
        speakers=tuple(clip.speaker for clip in clips),
        emotions=tuple(clip.emotion for clip in clips),
        levels=values.mean(axis=1),
    )
    return lambda: drift.compare(sample, sample, DriftSettings())


def _page(number: int, folder: Path) -> Callable[[], object]:
    clips = make_clips(number)
    data = summary.Data(
        splits=tuple(summary.SplitData(split=split, clips=1, examples=1, speakers=1) for split in SPLITS),
        quarantined=tuple(summary.QuarantinedClip(path=clip.path, reason="AUDIO_TOO_SHORT") for clip in clips),
        duplicates=tuple(summary.Duplicate(kept=clips[0].path, dropped=clip.path) for clip in clips),
    )
    speakers = [clip.speaker for clip in clips[::SPEAKER_CLIPS]]
    uar = (summary.Metric(name="uar", value=0.5),)
    slices = tuple(
        summary.SliceResult(dimension="speaker", value=one, clips=SPEAKER_CLIPS, speakers=1, emotions=7, metrics=uar)
        for one in speakers
    )
    evaluation = evaluate(*make_predictions(1_000)[1:], ["one"] * 1_000, classes=EMOTIONS, resamples=10)
    evaluation = evaluation.model_copy(update={"slices": slices})
    run = summary.Run(name="growth", started="2026-01-01T00:00:00Z", status="completed", command="", config="")
    report = summary.RunSummary(run=run, data=data, evaluation=evaluation)
    return lambda: write(report, folder)


FUNCTIONS: Mapping[str, Function] = {
    "names of the files": Function(_names),
    "listing and fingerprint of a folder": Function(_listing, most=100_000),
    "comparison with a version of the data": Function(_version, most=100_000),
    "splits": Function(_splits),
    f"splits, spans of {SPAN_CLIPS:,}": Function(_spans),
    "shards": Function(_shards),
    "duplicates, in pairs": Function(_pairs),
    "duplicates, all of one sound": Function(_one_sound),
    "report of the ingestion": Function(_census),
    "order of an epoch": Function(_order),
    "metrics, intervals, slices": Function(_metrics, most=100_000),
    "acceptance tests": Function(_acceptance, most=100_000),
    "drift": Function(_drift, most=100_000),
    "summary and report": Function(_page, most=100_000),
}
