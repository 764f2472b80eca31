"""Rate of drift alarms, without and with drift: ``python -m benchmarks.drift --data DIR --family FAMILY``.

The recordings in a folder are halved at random again and again, clip by clip (the same speakers in both halves) or
speaker by speaker (no speaker in both), and one half is compared with the other, as by ``ser drift``: as it is, 6 dB
louder, resampled from 8 kHz, without the names of speakers as in a request log, or with its labels mixed up. Features
are extracted once. The alarms of each case go to stderr at once.
"""

import collections
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import soxr
from scipy import stats
from tensorflow_metadata.proto.v0 import schema_pb2

import schema
from benchmarks import command, document
from components.audio_example_gen.settings import IngestSettings
from components.drift_monitor.comparison import Comparison, compare
from components.drift_monitor.sources import Change, Clips, read_recordings
from modules.audio.spec import AudioSpec
from modules.data import examples
from modules.drift.sample import Sample
from modules.drift.settings import DriftSettings
from modules.models import FAMILIES
from pipeline.config import load_config

GAIN_DB = 6.0
NARROW_RATE_HZ = 8000
LOGGED_CLIPS = 300
ANY = "anything"
MIXED_UP = {"happy": "sad", "sad": "angry", "angry": "happy"}


class Tally(NamedTuple):
    """Number of rounds of a case that alarmed."""

    rounds: int
    alarms: int


Halve = Callable[[Sample, np.random.Generator], tuple[np.ndarray, np.ndarray]]
Pair = tuple[Clips, Clips]
Recordings = dict[str, Clips]
"""By change."""


def louder(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return samples, float32 ``[samples]``, 6 dB louder."""
    return (samples * 10 ** (GAIN_DB / 20)).astype(np.float32)


def from_narrow_band(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return samples, float32 ``[samples]``, resampled from 8 kHz."""
    return soxr.resample(soxr.resample(samples, rate_hz, NARROW_RATE_HZ), NARROW_RATE_HZ, rate_hz).astype(np.float32)


CHANGES: dict[str, Change | None] = {"as it is": None, "6 dB louder": louder, "from 8 kHz": from_narrow_band}


def by_clip(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two random halves of the clips."""
    first, second = np.array_split(rng.permutation(sample.clips), 2)
    return first, second


def by_speaker(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two random halves of the speakers."""
    chosen = rng.permutation(sorted(set(sample.speakers or ())))
    first = np.isin(np.array(sample.speakers), chosen[: len(chosen) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def by_sex(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of men and women in random order; odd actors of RAVDESS are men."""
    men = np.array([int(speaker[-2:]) % 2 == 1 for speaker in sample.speakers or ()])
    halves = np.flatnonzero(men), np.flatnonzero(~men)
    return halves if rng.random() < 0.5 else halves[::-1]


def log_of(clips: Clips, rng: np.random.Generator) -> Clips:
    """Return clips as requests: in random order, without speakers and labels."""
    taken = clips.take(rng.permutation(clips.sample.clips)[:LOGGED_CLIPS])
    return Clips(
        dataclasses.replace(taken.sample, speakers=None, emotions=None),
        {examples.VALID_FRAMES: taken.numbers[examples.VALID_FRAMES]},
        served=True,
    )


def mix_up_labels(clips: Clips, rng: np.random.Generator) -> Clips:
    """Return clips with happy, sad and angry permuted."""
    emotions = tuple(MIXED_UP.get(name, name) for name in clips.sample.emotions or ())
    return clips._replace(sample=dataclasses.replace(clips.sample, emotions=emotions))


def small_batch(clips: Clips, rng: np.random.Generator) -> Clips:
    """Return a random fifth of the clips."""
    return clips.take(np.sort(rng.permutation(clips.sample.clips)[: clips.sample.clips // 5]))


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table: how the recordings are halved, and how the second half is changed."""

    name: str
    halve: Halve
    change: str = "as it is"
    then: Callable[[Clips, np.random.Generator], Clips] | None = None
    drifted: bool = True

    def pair(self, recordings: Recordings, rng: np.random.Generator) -> Pair:
        """Return the reference and the current sample of one round."""
        first, second = self.halve(recordings["as it is"].sample, rng)
        current = recordings[self.change].take(second)
        return recordings["as it is"].take(first), self.then(current, rng) if self.then else current


CASES = (
    Case("other clips of the same speakers", by_clip, drifted=False),
    Case("a fifth of them", by_clip, then=small_batch, drifted=False),
    Case("other speakers", by_speaker, drifted=False),
    Case("other speakers, 300 requests without names", by_speaker, then=log_of, drifted=False),
    Case("other clips of the same speakers, 6 dB louder", by_clip, "6 dB louder"),
    Case("other clips of the same speakers, resampled from 8 kHz", by_clip, "from 8 kHz"),
    Case("other speakers, resampled from 8 kHz", by_speaker, "from 8 kHz"),
    Case("other speakers, resampled from 8 kHz, 300 requests without names", by_speaker, "from 8 kHz", then=log_of),
    Case("women after men, or men after women", by_sex),
    Case("other clips of the same speakers, happy, sad and angry mixed up", by_clip, then=mix_up_labels),
    Case("other speakers, 6 dB louder", by_speaker, "6 dB louder"),
    Case("other speakers, 6 dB louder, 300 requests without names", by_speaker, "6 dB louder", then=log_of),
)


def read(data: Path, audio: AudioSpec) -> Recordings:
    """Return the features of all recordings as they are and after each change.

    Args:
        data: Folder of recordings.
        audio: Audio spec of the features.
    """
    ingest = IngestSettings(audio=audio)
    return {name: read_recordings(str(data), settings=ingest, change=change).clips for name, change in CHANGES.items()}


def compare_rounds(
    case: Case, recordings: Recordings, rounds: int, curated: schema_pb2.Schema, settings: DriftSettings
) -> Iterator[Comparison]:
    """Yield the comparison of each round of a case."""
    for number in range(rounds):
        reference, current = case.pair(recordings, np.random.default_rng(number))
        yield compare(reference, current, curated, settings)


def alarms(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """Return the number of comparisons that alarmed, in total and by part of the report."""
    of_parts = collections.Counter[str]()
    for comparison in comparisons:
        report = comparison.report
        of_parts[ANY] += comparison.drifted
        of_parts["a feature"] += bool(report.drifted_features)
        of_parts["all together"] += report.mean_ks.drifted
        of_parts["level"] += bool(report.level and report.level.drifted)
        of_parts["labels"] += bool(report.labels and report.labels.drifted)
        of_parts["emotions"] += any(emotion.drifted for emotion in report.emotions)
        of_parts["schema"] += any(difference.exceeded for difference in comparison.differences)
    return dict(of_parts)


def measure(data: Path, audio: AudioSpec, rounds: int, permutations: int) -> Iterator[Tally]:
    """Yield a tally for each of :data:`CASES`.

    Args:
        data: Folder of recordings.
        audio: Audio spec of the features.
        rounds: Rounds of a case without drift; a fifth of them with drift.
        permutations: Permutations of the speakers that set the thresholds.
    """
    recordings, curated = read(data, audio), schema.load(audio)
    for case in CASES:
        number = max(1, rounds // 5) if case.drifted else rounds
        counts = alarms(
            list(compare_rounds(case, recordings, number, curated, DriftSettings(permutations=permutations)))
        )
        parts = ", ".join(f"{part} {count}" for part, count in counts.items() if count)
        print(f"{case.name}: of {number} {parts or 'none'}", file=sys.stderr, flush=True)
        yield Tally(number, counts[ANY])


def to_markdown(tallies: Sequence[Tally]) -> str:
    """Return the table and the rate of false alarms.

    Args:
        tallies: Those of :data:`CASES`.
    """
    lines = [
        [case.name, "yes" if case.drifted else "no", str(tally.rounds), f"{tally.alarms / tally.rounds:.0%}"]
        for case, tally in zip(CASES, tallies, strict=True)
    ]
    return document.table(["second half", "drift?", "rounds", "alarms"], lines) + "\n" + _false_alarms(tallies)


def _false_alarms(tallies: Sequence[Tally]) -> str:
    still = [tally for case, tally in zip(CASES, tallies, strict=True) if not case.drifted]
    rounds, false = sum(tally.rounds for tally in still), sum(tally.alarms for tally in still)
    interval = stats.binomtest(false, rounds).proportion_ci()
    return (
        f"Of {rounds} rounds without drift {false} alarmed: {false / rounds:.1%} "
        f"({interval.low:.1%} to {interval.high:.1%}, exact, as if the rounds were independent)."
    )


def main() -> None:
    """Count the alarms of every case and print the table."""
    parser = command.make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="rounds without drift; a fifth of them with drift")
    parser.add_argument(
        "--permutations", type=int, default=200, help="number of speaker permutations that set the thresholds"
    )
    parser.add_argument("--family", choices=sorted(FAMILIES), required=True, help="model family, for its features")
    options = parser.parse_args()
    audio = load_config(overrides=[f"training.family={options.family}"]).audio
    tallies = list(measure(options.data, audio, options.rounds, options.permutations))
    command.publish({f"drift of {options.family}": to_markdown(tallies)}, options.write)


if __name__ == "__main__":
    main()
