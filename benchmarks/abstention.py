"""Coverage and error rate of a model that abstains: ``python -m benchmarks.abstention --data DIR [--write FILE]``.

Folds and models are those of ``ser evaluate``. Each fold's threshold is chosen on its eval speakers, as
``training.max_error`` does, and tested on its test speakers.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


from benchmarks import command, document
from benchmarks.robustness import ENCODER
from modules.evaluation import abstention
from modules.evaluation.calibration import apply_temperature
from modules.evaluation.evaluate import coverages
from modules.evaluation.intervals import Predictions

if TYPE_CHECKING:
    from pipeline.cross_validation.run import FoldResult, Plan

PROMISES = (0.1, 0.15, 0.2, 0.25)


class FoldOutcome(NamedTuple):
    """A threshold on the test speakers of one fold.

    Attributes:
        answered: Number of clips with an answer.
        clips: Number of clips.
        errors: Number of wrong answers.
    """

    answered: int
    clips: int
    errors: int

    @property
    def error(self) -> float:
        """Error rate of the answers; 0 without one."""
        return self.errors / max(self.answered, 1)


def outcomes_of(planned: "Plan", results: Sequence["FoldResult"], promise: float) -> list[FoldOutcome | None]:
    """Return the outcome of a promise in each fold; None where its eval speakers do not allow the promise.

    Args:
        planned: Plan of the cross-validation.
        results: Results of its folds.
        promise: Promised error rate.
    """
    from modules.data import examples
    from pipeline.cross_validation import run as cross_validation

    columns = planned.corpus.columns
    outcomes: list[FoldOutcome | None] = []
    for fold, result in zip(planned.folds, results, strict=True):
        positions, answers = cross_validation.predict(planned, fold, fold.eval)
        calibrated = apply_temperature(answers, result.temperature)
        try:
            chosen = abstention.fit(
                calibrated, columns[examples.EMOTION_ID][positions], columns[examples.SPEAKER][positions], promise
            )
        except abstention.PromiseOutOfReach:
            outcomes.append(None)
            continue
        tested = cross_validation.predictions(planned, [result])
        answered = tested.probabilities.max(axis=1) >= chosen.min_confidence
        wrong = tested.predicted != tested.labels
        outcomes.append(FoldOutcome(int(answered.sum()), len(answered), int(wrong[answered].sum())))
    return outcomes


def promises_table(outcomes: dict[float, list[FoldOutcome | None]]) -> str:
    """Return coverage and error rate of each promise.

    Args:
        outcomes: Outcomes of the folds by promise.
    """
    rows = []
    for promise, folds in outcomes.items():
        made = [fold for fold in folds if fold]
        kept = sum(fold.error <= promise for fold in made)
        coverage = sum(fold.answered for fold in made) / max(sum(fold.clips for fold in made), 1)
        error = sum(fold.errors for fold in made) / max(sum(fold.answered for fold in made), 1)
        each = ", ".join(f"{100 * fold.error:.1f}" if fold else "none" for fold in folds)
        rows.append(
            [
                f"{100 * promise:g}",
                f"{100 * coverage:.0f}",
                f"{100 * error:.1f}",
                f"{kept} of {len(made)}",
                each,
            ]
        )
    return document.table(["promise %", "answered %", "error %", "kept", "error % of the folds"], rows)


def coverages_table(predictions: Predictions) -> str:
    """Return the accuracy of the most confident clips of all folds.

    Args:
        predictions: Predictions of all folds.
    """
    rows = []
    for each in coverages(predictions):
        _, value, interval = each.accuracy.texts
        rows.append([f"{100 * each.coverage:.0f}", f"{each.min_confidence:.2f}", f"{value} ({interval})"])
    return document.table(["answered %", "confidence from", "accuracy"], rows)


def main() -> None:
    """Cross-validate, test the promises and print the tables."""
    from pipeline.cross_validation import run as cross_validation

    options = command.make_folds_parser(__doc__).parse_args()
    with command.run_folder(options.root):
        planned = command.plan_folds(options, ENCODER)
        results = list(cross_validation.results(planned))
        outcomes = {promise: outcomes_of(planned, results, promise) for promise in PROMISES}
        pooled = cross_validation.predictions(planned, results)
    tables = {"coverages": coverages_table(pooled), "promises": promises_table(outcomes)}
    command.publish(tables, options.write)


if __name__ == "__main__":
    main()
