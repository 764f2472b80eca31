"""Prediction drift of retrained and of faulty models: ``python -m benchmarks.prediction_drift --data DIR``.

``ser rollout watch`` bounds the difference between the predictions of two versions for the same recordings. Here the
stable version is the recipe of ``benchmarks.ablation`` on the test speakers of each fold. The canary was not trained on
them either: it is the recipe from another seed or with other speakers, another recipe, or a faulty model. Watches over
recordings drawn from a fold show which bound accepts retrained and rejects faulty models.
Folds that ``benchmarks.ablation`` trained below ``--root`` are read, others are trained first.
"""

import argparse
import collections
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import command, document
from benchmarks.ablation import RECIPE, make_parser, plan_rows, rows_of, shown
from serving.rollout.settings import WatchSettings
from serving.rollout.verdict import EMOTIONS_DRIFT, PROBABILITIES_DRIFT, Observed, Outcome, decide

if TYPE_CHECKING:
    from pipeline.cross_validation.run import FoldResult, Plan

RECORDINGS = (20, 200)
"""Recordings of a watch: the fewest that it decides on, and the most that it uses."""

WATCHES = 40
"""Number of watches of each case and number of recordings."""

Pair = tuple[np.ndarray, np.ndarray]
"""Predictions of stable version and canary for the same recordings, ``[recordings, emotions]`` each."""


def swapped(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return probabilities, ``[recordings, emotions]``, with two emotions swapped."""
    order = np.arange(answers.shape[1])
    one, other = rng.choice(order, 2, replace=False)
    order[[one, other]] = other, one
    return answers[:, order]


def one_off(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return probabilities, ``[recordings, emotions]``, with the emotions shifted by one."""
    return np.roll(answers, 1, axis=1)


def of_others(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return probabilities, ``[recordings, emotions]``, of permuted recordings."""
    return rng.permutation(answers)


def always_average(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the mean probabilities for every recording, ``[recordings, emotions]``."""
    return np.tile(answers.mean(axis=0), (len(answers), 1))


def always_one(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return probability 1 of the most frequent prediction for every recording, ``[recordings, emotions]``."""
    (most_common,) = collections.Counter(answers.argmax(axis=1).tolist()).most_common(1)
    return np.tile(np.eye(answers.shape[1])[most_common[0]], (len(answers), 1))


FAULTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "two emotions swapped": swapped,
    "emotions one place off": one_off,
    "answers about other recordings": of_others,
    "always the average answer": always_average,
    "always one emotion": always_one,
}
"""Faults of the predictions of the recipe from another seed."""


@dataclasses.dataclass(frozen=True)
class Watch:
    """Measurements and outcome of a watch."""

    probabilities_drift: float
    emotions_drift: float
    outcome: Outcome


def watches(pairs: Sequence[Pair], recordings: int, *, count: int = WATCHES) -> Iterator[Watch]:
    """Yield watches over recordings drawn from the pairs in rotation."""
    rng = np.random.default_rng(0)
    settings = WatchSettings(min_requests=1, min_recordings=1)
    for pair in itertools.islice(itertools.cycle(pairs), count):
        clips = len(pair[0])
        chosen = rng.choice(clips, min(recordings, clips), replace=False)
        stable, canary = (_observed(answers[chosen]) for answers in pair)
        verdict = decide(stable, canary, settings)
        drifts = {check.code: float(check.value or 0) for check in verdict.checks}
        yield Watch(drifts[PROBABILITIES_DRIFT], drifts[EMOTIONS_DRIFT], verdict.outcome)


def _observed(answers: np.ndarray) -> Observed:
    """Return an observation in which every request succeeded in the same time."""
    rows = {
        str(recording): {str(emotion): probability for emotion, probability in enumerate(row)}
        for recording, row in enumerate(answers.tolist())
    }
    return Observed(requests=len(answers), latencies_sec=(1.0,) * len(answers), probabilities=rows)


def pairs_of(stable: Sequence["FoldResult"], canary: Sequence["FoldResult"]) -> list[Pair]:
    """Return the predictions of each fold.

    Args:
        stable: Results of the stable version.
        canary: Results of the canary.

    Raises:
        ValueError: The results are not of the same recordings.
    """
    if [result.clip_ids for result in stable] != [result.clip_ids for result in canary]:
        raise ValueError("the folds of the two do not hold the same recordings; train both on the same data")
    return [
        (np.array(first.probabilities), np.array(second.probabilities))
        for first, second in zip(stable, canary, strict=True)
    ]


def sound_cases(results: Mapping[str, Sequence["FoldResult"]]) -> dict[str, list[Pair]]:
    """Return pairs of the recipe from different seeds, and of the recipe with every other row."""
    seeds = [folds for name, folds in results.items() if name.startswith(RECIPE)]
    cases = {"another seed": [pair for two in itertools.combinations(seeds, 2) for pair in pairs_of(*two)]}
    others = {name: folds for name, folds in results.items() if not name.startswith(RECIPE)}
    return cases | {shown(name): pairs_of(results[RECIPE], folds) for name, folds in others.items()}


def faulty_cases(seeds: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Return the pairs with each of :data:`FAULTS` in the second of them."""
    rng = np.random.default_rng(0)
    return {name: [(stable, spoil(canary, rng)) for stable, canary in seeds] for name, spoil in FAULTS.items()}


def other_speakers(planned: "Plan", results: Sequence["FoldResult"]) -> list[Pair]:
    """Return predictions of models of two folds: one left the speakers out, the other calibrated on them only."""
    from modules.data import examples
    from modules.evaluation.calibration import apply_temperature
    from pipeline.cross_validation import run as cross_validation

    answer_to = {
        clip: row for result in results for clip, row in zip(result.clip_ids, result.probabilities, strict=True)
    }
    clip_ids, pairs = planned.corpus.columns[examples.CLIP_ID], []
    for fold, result in zip(planned.folds, results, strict=True):
        positions, answers = cross_validation.predict(planned, fold, fold.eval)
        stable = np.array([answer_to[clip] for clip in clip_ids[positions]])
        pairs.append((stable, apply_temperature(answers, result.temperature)))
    return pairs


def not_normalised(planned: "Plan", results: Sequence["FoldResult"]) -> list[Pair]:
    """Return predictions for features without normalisation, as if serving lacked the preprocessing."""
    from modules.evaluation.calibration import apply_temperature
    from pipeline.cross_validation import run as cross_validation

    pairs = []
    for fold, result in zip(planned.folds, results, strict=True):
        _, answers = cross_validation.predict(
            planned, fold, fold.test, normalise=lambda features, valid_frames: features
        )
        pairs.append((np.array(result.probabilities), apply_temperature(answers, result.temperature)))
    return pairs


def shuffled_labels(planned: "Plan") -> "Plan":
    """Return a plan of the first fold with permuted labels."""
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
    """Return the predictions of every case."""
    from pipeline.cross_validation import run as cross_validation

    plans, results = {}, {}
    for name, planned in plan_rows(rows_of(options.rows, options.seeds), options.data, options.root):
        plans[name], results[name] = planned, list(cross_validation.results(planned))
    planned, recipe = plans[RECIPE], results[RECIPE]
    sound = sound_cases(results)
    cases = {"another seed": sound.pop("another seed"), "other speakers": other_speakers(planned, recipe)} | sound
    cases |= faulty_cases(cases["another seed"])
    cases["features not normalised"] = not_normalised(planned, recipe)
    mistrained = list(cross_validation.results(shuffled_labels(planned)))
    return cases | {"labels shuffled in training": pairs_of(recipe[:1], mistrained)}


def to_markdown(cases: Mapping[str, Sequence[Pair]], *, count: int = WATCHES) -> str:
    """Return a table for each number of recordings, and their explanation."""
    tables = []
    for recordings in RECORDINGS:
        heads = [f"canary, {recordings} recordings", "probabilities", "emotions", "promoted %", "rolled back %"]
        lines = [[name, *_cells(list(watches(pairs, recordings, count=count)))] for name, pairs in cases.items()]
        tables.append(document.table(heads, lines))
    return "\n".join(tables) + (
        f"\nJensen-Shannon divergence to base 2, median and range of {count} watches, each over this number of "
        "recordings of one fold, or all of them. Outcomes by a bound of "
        f"{WatchSettings().max_prediction_drift:g}; what is neither promoted nor rolled back stays undecided."
    )


def _cells(measured: Sequence[Watch]) -> list[str]:
    outcomes = collections.Counter(watch.outcome for watch in measured)
    return [
        _range([watch.probabilities_drift for watch in measured]),
        _range([watch.emotions_drift for watch in measured]),
        *(f"{100 * outcomes[outcome] / len(measured):.0f}" for outcome in ("promote", "roll back")),
    ]


def _range(values: Sequence[float]) -> str:
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Measure every case and print the table."""
    parser = make_parser(__doc__)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}; two are needed to compare")

    with command.run_folder(options.root):
        cases = measure(options)
    command.publish({"prediction_drift": to_markdown(cases)}, options.write)


if __name__ == "__main__":
    main()
