"""How often drift alarms, without drift and with it: ``python -m benchmarks.drift [--data DIR] [--rounds N]``.

The recordings in a folder are halved at random again and again, clip by clip (the same speakers in both halves) or
speaker by speaker (nobody in both), and one half is compared with the other, as ``ser drift`` does it: as it is, 6 dB
louder, resampled from 8 kHz, without the names of speakers as in a request log, or with its labels mixed up. Features
are extracted once.
"""

import argparse
import collections
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import soxr
from tensorflow_metadata.proto.v0 import schema_pb2

import schema
from components.audio_example_gen.settings import IngestSettings
from components.drift_monitor.comparison import Comparison, compare
from components.drift_monitor.sources import Change, Clips, read_recordings
from modules import examples
from modules.audio_spec import AudioSpec
from modules.drift import Sample
from modules.drift_settings import DriftSettings

CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"
GAIN_DB = 6.0
NARROW_RATE_HZ = 8000
LOGGED_CLIPS = 300
MIXED_UP = {"happy": "sad", "sad": "angry", "angry": "happy"}

Halve = Callable[[Sample, np.random.Generator], tuple[np.ndarray, np.ndarray]]
Pair = tuple[Clips, Clips]


def louder(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    return (samples * 10 ** (GAIN_DB / 20)).astype(np.float32)


def from_narrow_band(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    return soxr.resample(soxr.resample(samples, rate_hz, NARROW_RATE_HZ), NARROW_RATE_HZ, rate_hz).astype(np.float32)


CHANGES: dict[str, Change | None] = {"as it is": None, "6 dB louder": louder, "from 8 kHz": from_narrow_band}


def by_clip(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.array_split(rng.permutation(sample.clips), 2)
    return first, second


def by_speaker(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    chosen = rng.permutation(sorted(set(sample.speakers or ())))
    first = np.isin(np.array(sample.speakers), chosen[: len(chosen) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def by_sex(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """RAVDESS's odd actors are men."""
    men = np.array([int(speaker[-2:]) % 2 == 1 for speaker in sample.speakers or ()])
    halves = np.flatnonzero(men), np.flatnonzero(~men)
    return halves if rng.random() < 0.5 else halves[::-1]


def log_of(clips: Clips, rng: np.random.Generator) -> Clips:
    """Requests of people in any order, nobody named."""
    taken = clips.take(rng.permutation(clips.sample.clips)[:LOGGED_CLIPS])
    return Clips(
        dataclasses.replace(taken.sample, speakers=None, emotions=None),
        {examples.VALID_FRAMES: taken.numbers[examples.VALID_FRAMES]},
        served=True,
    )


def mix_up_labels(clips: Clips, rng: np.random.Generator) -> Clips:
    emotions = tuple(MIXED_UP.get(name, name) for name in clips.sample.emotions or ())
    return clips._replace(sample=dataclasses.replace(clips.sample, emotions=emotions))


def small_batch(clips: Clips, rng: np.random.Generator) -> Clips:
    """A fifth of the clips, at random."""
    return clips.take(np.sort(rng.permutation(clips.sample.clips)[: clips.sample.clips // 5]))


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table: how the recordings are halved, and what happens to the second half."""

    halve: Halve
    change: str = "as it is"
    then: Callable[[Clips, np.random.Generator], Clips] | None = None
    drifted: bool = True

    @property
    def name(self) -> str:
        halves = self.halve.__name__.replace("_", " ")
        return ", ".join([halves, self.change, *([self.then.__name__.replace("_", " ")] if self.then else [])])

    def pair(self, recordings: dict[str, Clips], rng: np.random.Generator) -> Pair:
        first, second = self.halve(recordings["as it is"].sample, rng)
        current = recordings[self.change].take(second)
        return recordings["as it is"].take(first), self.then(current, rng) if self.then else current


CASES = (
    Case(by_clip, drifted=False),
    Case(by_clip, then=small_batch, drifted=False),
    Case(by_speaker, drifted=False),
    Case(by_speaker, then=log_of, drifted=False),
    *(Case(halve, change) for change in ("6 dB louder", "from 8 kHz") for halve in (by_clip, by_speaker)),
    *(Case(by_speaker, change, then=log_of) for change in ("6 dB louder", "from 8 kHz")),
    Case(by_sex),
    Case(by_clip, then=mix_up_labels),
)


def comparisons(
    case: Case, recordings: dict[str, Clips], rounds: int, curated: schema_pb2.Schema, settings: DriftSettings
) -> Iterator[Comparison]:
    for number in range(rounds):
        reference, current = case.pair(recordings, np.random.default_rng(number))
        yield compare(reference, current, curated, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=CORPORA / "ravdess", help="folder of recordings")
    parser.add_argument("--rounds", type=int, default=100, help="without drift; with drift a fifth as many")
    parser.add_argument("--deals", type=int, default=200)
    parser.add_argument("--feature-family", choices=("utterance", "logmel"), default="utterance")
    options = parser.parse_args()
    ingest = IngestSettings(audio=AudioSpec(feature_family=options.feature_family))
    recordings = {
        name: read_recordings(str(options.data), settings=ingest, change=change).clips
        for name, change in CHANGES.items()
    }
    settings, curated = DriftSettings(deals=options.deals), schema.load(ingest.audio)
    parts = f"{'features':>10}{'all':>6}{'level':>7}{'labels':>8}{'emotions':>10}{'schema':>8}"
    print(f"{'second half':44}{'rounds':>7}{'alarms':>9}{parts}")
    for case in CASES:
        rounds = max(1, options.rounds // 5) if case.drifted else options.rounds
        print_row(case.name, list(comparisons(case, recordings, rounds, curated, settings)))


def print_row(name: str, found: list[Comparison]) -> None:
    alarms = collections.Counter[str]()
    for each in found:
        report = each.report
        alarms["any"] += each.drifted
        alarms["schema"] += any(difference.exceeded for difference in each.differences)
        alarms["features"] += bool(report.drifted_features)
        alarms["all"] += report.mean_ks.drifted
        alarms["level"] += bool(report.level and report.level.drifted)
        alarms["labels"] += bool(report.labels and report.labels.drifted)
        alarms["emotions"] += any(emotion.drifted for emotion in report.emotions)
    share = {kind: f"{count / len(found):.0%}" for kind, count in alarms.items()}
    parts = f"{share['features']:>10}{share['all']:>6}{share['level']:>7}{share['labels']:>8}{share['emotions']:>10}"
    print(f"{name:44}{len(found):7}{share['any']:>9}{parts}{share['schema']:>8}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
