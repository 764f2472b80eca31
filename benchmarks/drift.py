"""How often drift alarms, without drift and with it: ``python -m benchmarks.drift [--data DIR] [--rounds N]``.

The recordings in a folder are halved at random again and again, clip by clip (the same speakers in both halves) or
speaker by speaker (nobody in both), and one half is compared with the other: as it is, 6 dB louder, resampled from
8 kHz, without the names of speakers as in a request log, or with its labels mixed up. Features are extracted once.
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

from components.audio_example_gen.settings import IngestSettings
from components.drift_monitor.sources import Change, read_recordings
from modules.audio_spec import AudioSpec
from modules.drift import DriftReport, Sample, compare
from modules.drift_settings import DriftSettings

CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"
GAIN_DB = 6.0
NARROW_RATE_HZ = 8000
LOGGED_CLIPS = 300
MIXED_UP = {"happy": "sad", "sad": "angry", "angry": "happy"}

Halve = Callable[[Sample, np.random.Generator], tuple[np.ndarray, np.ndarray]]
Pair = tuple[Sample, Sample]


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


def log_of(sample: Sample, rng: np.random.Generator) -> Sample:
    """Requests of people in any order, nobody named."""
    rows = rng.permutation(sample.clips)[:LOGGED_CLIPS]
    return dataclasses.replace(sample.take(rows), speakers=None, emotions=None)


def mix_up_labels(sample: Sample, rng: np.random.Generator) -> Sample:
    return dataclasses.replace(sample, emotions=tuple(MIXED_UP.get(name, name) for name in sample.emotions or ()))


def small_batch(sample: Sample, rng: np.random.Generator) -> Sample:
    """A fifth of the clips, at random."""
    return sample.take(np.sort(rng.permutation(sample.clips)[: sample.clips // 5]))


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table: how the recordings are halved, and what happens to the second half."""

    halve: Halve
    change: str = "as it is"
    then: Callable[[Sample, np.random.Generator], Sample] | None = None
    drifted: bool = True

    @property
    def name(self) -> str:
        halves = self.halve.__name__.replace("_", " ")
        return ", ".join([halves, self.change, *([self.then.__name__.replace("_", " ")] if self.then else [])])

    def pair(self, samples: dict[str, Sample], rng: np.random.Generator) -> Pair:
        first, second = self.halve(samples["as it is"], rng)
        current = samples[self.change].take(second)
        return samples["as it is"].take(first), self.then(current, rng) if self.then else current


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


def reports(case: Case, samples: dict[str, Sample], rounds: int, settings: DriftSettings) -> Iterator[DriftReport]:
    for number in range(rounds):
        reference, current = case.pair(samples, np.random.default_rng(number))
        yield compare(reference, current, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=CORPORA / "ravdess", help="folder of recordings")
    parser.add_argument("--rounds", type=int, default=100, help="without drift; with drift a fifth as many")
    parser.add_argument("--deals", type=int, default=200)
    parser.add_argument("--feature-family", choices=("utterance", "logmel"), default="utterance")
    options = parser.parse_args()
    ingest = IngestSettings(audio=AudioSpec(feature_family=options.feature_family))
    samples = {
        name: read_recordings(str(options.data), settings=ingest, change=change).sample
        for name, change in CHANGES.items()
    }
    settings = DriftSettings(deals=options.deals)
    parts = f"{'features':>10}{'all':>6}{'level':>7}{'labels':>8}{'emotions':>10}"
    print(f"{'second half':44}{'rounds':>7}{'alarms':>9}{parts}")
    for case in CASES:
        rounds = max(1, options.rounds // 5) if case.drifted else options.rounds
        print_row(case.name, list(reports(case, samples, rounds, settings)))


def print_row(name: str, found: list[DriftReport]) -> None:
    alarms = collections.Counter[str]()
    for report in found:
        alarms["any"] += report.drifted
        alarms["features"] += bool(report.drifted_features)
        alarms["all"] += report.mean_ks.drifted
        alarms["level"] += bool(report.level and report.level.drifted)
        alarms["labels"] += bool(report.labels and report.labels.drifted)
        alarms["emotions"] += any(emotion.drifted for emotion in report.emotions)
    share = {kind: f"{count / len(found):.0%}" for kind, count in alarms.items()}
    parts = f"{share['features']:>10}{share['all']:>6}{share['level']:>7}{share['labels']:>8}{share['emotions']:>10}"
    print(f"{name:44}{len(found):7}{share['any']:>9}{parts}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
