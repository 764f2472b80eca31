"""How far the answers of a retrained and of a broken model drift: ``python -m benchmarks.prediction_drift --data DIR``.

``ser rollout watch`` asks two versions about the same recordings and bounds how differently they answer. Here the
stable version is the recipe of ``benchmarks.ablation``, asked about the test speakers of each fold, and the canary has
not heard them either: it is the recipe trained from another seed or with other speakers, another recipe, or a model
that something is wrong with. Watches over recordings drawn from a fold show which bound lets the one through and stops
the other. Folds that ``benchmarks.ablation`` trained below ``--root`` are read, others are trained first.
"""

import argparse
import collections
import dataclasses
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import document
from benchmarks.ablation import FOLDS, RECIPE, add_options, rows_of, shown
from serving.rollout.settings import WatchSettings
from serving.rollout.verdict import Observed, Outcome, judge

if TYPE_CHECKING:
    from pipeline.cross_validation.run import FoldResult, Plan

RECORDINGS = (20, 200)
"""How many a watch asks about: the fewest that it decides on, and the most that it asks about."""

WATCHES = 40
"""Of each case and number of recordings."""

Pair = tuple[np.ndarray, np.ndarray]
"""Answers of stable version and canary to the same recordings, ``[recordings, emotions]`` each."""


def swapped(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two emotions under each other's name."""
    order = np.arange(answers.shape[1])
    one, other = rng.choice(order, 2, replace=False)
    order[[one, other]] = other, one
    return answers[:, order]


def one_off(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(answers, 1, axis=1)


def of_others(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(answers)


def always_average(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.tile(answers.mean(axis=0), (len(answers), 1))


def always_one(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The emotion that was named most often, without a doubt."""
    (named,) = collections.Counter(answers.argmax(axis=1).tolist()).most_common(1)
    return np.tile(np.eye(answers.shape[1])[named[0]], (len(answers), 1))


FAULTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "two emotions swapped": swapped,
    "emotions one place off": one_off,
    "answers about other recordings": of_others,
    "always the average answer": always_average,
    "always one emotion": always_one,
}
"""What becomes of the answers of the recipe from another seed."""


@dataclasses.dataclass(frozen=True)
class Watch:
    """What a watch would measure, and do."""

    probabilities_drift: float
    emotions_drift: float
    outcome: Outcome


def watches(pairs: Sequence[Pair], recordings: int, *, count: int = WATCHES) -> Iterator[Watch]:
    """Each over recordings drawn from one of the pairs, in turn."""
    rng = np.random.default_rng(0)
    settings = WatchSettings(min_requests=1, min_recordings=1)
    for pair in itertools.islice(itertools.cycle(pairs), count):
        clips = len(pair[0])
        chosen = rng.choice(clips, min(recordings, clips), replace=False)
        stable, canary = (_observed(answers[chosen]) for answers in pair)
        verdict = judge(stable, canary, settings)
        probabilities, emotions = (float(check.value or 0) for check in verdict.checks if "Drift" in check.name)
        yield Watch(probabilities, emotions, verdict.outcome)


def _observed(answers: np.ndarray) -> Observed:
    """Every request answered, and equally fast."""
    rows = {
        str(recording): {str(emotion): probability for emotion, probability in enumerate(row)}
        for recording, row in enumerate(answers.tolist())
    }
    return Observed(requests=len(answers), latencies_sec=(1.0,) * len(answers), probabilities=rows)


def pairs_of(stable: Sequence["FoldResult"], canary: Sequence["FoldResult"]) -> list[Pair]:
    """Fold by fold.

    Raises:
        ValueError: The two were not asked about the same recordings.
    """
    if [result.clip_ids for result in stable] != [result.clip_ids for result in canary]:
        raise ValueError("the folds of the two do not hold the same recordings; train both on the same data")
    return [
        (np.array(first.probabilities), np.array(second.probabilities))
        for first, second in zip(stable, canary, strict=True)
    ]


def sound_cases(results: Mapping[str, Sequence["FoldResult"]]) -> dict[str, list[Pair]]:
    """The recipe from each seed against that from each other, and against every other row."""
    seeds = [found for name, found in results.items() if name.startswith(RECIPE)]
    cases = {"another seed": [pair for two in itertools.combinations(seeds, 2) for pair in pairs_of(*two)]}
    others = {name: found for name, found in results.items() if not name.startswith(RECIPE)}
    return cases | {shown(name): pairs_of(results[RECIPE], found) for name, found in others.items()}


def faulty_cases(seeds: Sequence[Pair]) -> dict[str, list[Pair]]:
    """:data:`FAULTS` of the second of each pair."""
    rng = np.random.default_rng(0)
    return {name: [(stable, spoil(canary, rng)) for stable, canary in seeds] for name, spoil in FAULTS.items()}


def other_speakers(planned: "Plan", results: Sequence["FoldResult"]) -> list[Pair]:
    """Two folds' models about speakers of whom one left them out and the other only calibrated on them."""
    from modules.data import examples
    from modules.evaluation.calibration import temper
    from pipeline.cross_validation import run as cross_validation

    answer_to = {
        clip: row for result in results for clip, row in zip(result.clip_ids, result.probabilities, strict=True)
    }
    clip_ids, pairs = planned.corpus.columns[examples.CLIP_ID], []
    for fold, result in zip(planned.folds, results, strict=True):
        positions, answers = cross_validation.predict(planned, fold, fold.eval)
        stable = np.array([answer_to[clip] for clip in clip_ids[positions]])
        pairs.append((stable, temper(answers, result.temperature)))
    return pairs


def not_normalised(planned: "Plan", results: Sequence["FoldResult"]) -> list[Pair]:
    """Models that get the features as they were extracted, as if preprocessing were missing where they are served."""
    from modules.evaluation.calibration import temper
    from pipeline.cross_validation import run as cross_validation

    pairs = []
    for fold, result in zip(planned.folds, results, strict=True):
        _, answers = cross_validation.predict(
            planned, fold, fold.test, normalise=lambda features, valid_frames: features
        )
        pairs.append((np.array(result.probabilities), temper(answers, result.temperature)))
    return pairs


def shuffled_labels(planned: "Plan") -> "Plan":
    """The first fold alone, to be trained on labels that belong to other clips."""
    from modules.data import examples

    corpus = planned.corpus
    labels = np.random.default_rng(0).permutation(corpus.columns[examples.EMOTION_ID])
    shuffled = dataclasses.replace(
        corpus,
        fingerprint=f"{corpus.fingerprint}, labels shuffled",
        columns=corpus.columns | {examples.EMOTION_ID: labels},
    )
    return dataclasses.replace(planned, corpus=shuffled, folds=planned.folds[:1])


def measure(options: argparse.Namespace) -> dict[str, list[Pair]]:
    """Answers in every case."""
    from pipeline.config import load_config
    from pipeline.cross_validation import run as cross_validation

    plans, results = {}, {}
    for name, overrides in rows_of(options.rows, options.seeds).items():
        print(f"Row      {name}", file=sys.stderr, flush=True)
        plans[name] = cross_validation.plan(
            load_config(overrides=overrides), data=options.data, root=options.root, folds=FOLDS
        )
        results[name] = list(cross_validation.results(plans[name]))
    planned, found = plans[RECIPE], results[RECIPE]
    sound = sound_cases(results)
    cases = {"another seed": sound.pop("another seed"), "other speakers": other_speakers(planned, found)} | sound
    cases |= faulty_cases(cases["another seed"])
    cases["features not normalised"] = not_normalised(planned, found)
    astray = list(cross_validation.results(shuffled_labels(planned)))
    return cases | {"labels shuffled in training": pairs_of(found[:1], astray)}


def to_markdown(cases: Mapping[str, Sequence[Pair]], *, count: int = WATCHES) -> str:
    """The table, and what to know to read it."""
    heads = ["canary"]
    for recordings in RECORDINGS:
        heads += [f"{recordings} recordings: probabilities", "emotions", "promoted %", "rolled back %"]
    lines = []
    for name, pairs in cases.items():
        cells = [name]
        for recordings in RECORDINGS:
            cells += _cells(list(watches(pairs, recordings, count=count)))
        lines.append(cells)
    return document.table(heads, lines) + (
        f"\nJensen-Shannon divergence to base 2, median and range of {count} watches, each over so many recordings of "
        f"one fold, or all that there are. Outcomes by a bound of {WatchSettings().max_prediction_drift:g}; what is "
        "neither promoted nor rolled back stays undecided."
    )


def _cells(found: Sequence[Watch]) -> list[str]:
    outcomes = collections.Counter(watch.outcome for watch in found)
    return [
        _range([watch.probabilities_drift for watch in found]),
        _range([watch.emotions_drift for watch in found]),
        *(f"{100 * outcomes[outcome] / len(found):.0f}" for outcome in ("promote", "roll back")),
    ]


def _range(values: Sequence[float]) -> str:
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}; two are needed to compare")

    from pipeline.run_lock import LOG_FILE, exclusive
    from pipeline.run_log import quiet  # takes seconds

    with quiet(options.root / LOG_FILE), exclusive(options.root):
        cases = measure(options)
    text = to_markdown(cases)
    print(text)
    if options.write:
        document.write(options.write, "prediction_drift", text)


if __name__ == "__main__":
    main()
