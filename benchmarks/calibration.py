"""Contribution of the temperature: ``python -m benchmarks.calibration --data DIR [--root DIR] [--write FILE]``.

The folds of ``benchmarks.ablation`` are evaluated three times: without a temperature, with the unshrunk temperature of
the fold's eval speakers, and with the shrunk temperature of the pipeline. Folds that the ablation trained below
``--root`` are read, others are trained first.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import command, document
from benchmarks.ablation import make_parser, plan_rows, rows_of, shown
from modules.evaluation.calibration import apply_temperature, fit_temperature
from modules.evaluation.intervals import Predictions, estimates

if TYPE_CHECKING:
    from pipeline.cross_validation.run import FoldResult, Plan


class Tempered(NamedTuple):
    """Predictions of a row with one choice of temperatures."""

    temperatures: tuple[float, ...]
    predictions: Predictions


def choose(planned: "Plan", results: Sequence["FoldResult"]) -> tuple[Tempered, ...]:
    """Return the folds without temperatures, with unshrunk ones, and with those of the results.

    Args:
        planned: Plan of the cross-validation.
        results: Results of its folds.
    """
    used = [result.temperature for result in results]
    fitted = [_fitted(planned, result) for result in results]
    return tuple(_tempered(planned, results, chosen) for chosen in ([1.0] * len(results), fitted, used))


def _fitted(planned: "Plan", result: "FoldResult") -> float:
    """Return the temperature of the eval speakers, nearly unshrunk, since each clip counts as a speaker."""
    from modules.data import examples
    from pipeline.cross_validation import run as cross_validation

    (fold,) = (fold for fold in planned.folds if fold.name == result.name)
    positions, answers = cross_validation.predict(planned, fold, fold.eval)
    return fit_temperature(answers, planned.corpus.columns[examples.EMOTION_ID][positions], speakers=positions)


def _tempered(planned: "Plan", results: Sequence["FoldResult"], temperatures: Sequence[float]) -> Tempered:
    from pipeline.cross_validation import run as cross_validation

    changed = [retempered(result, chosen) for result, chosen in zip(results, temperatures, strict=True)]
    return Tempered(tuple(temperatures), cross_validation.predictions(planned, changed))


def retempered(result: "FoldResult", temperature: float) -> "FoldResult":
    """Return the same predictions with another temperature."""
    rows = apply_temperature(np.array(result.probabilities), temperature / result.temperature)
    return result.model_copy(update={"probabilities": tuple(map(tuple, rows.tolist())), "temperature": temperature})


def to_markdown(choices: Mapping[str, Sequence[Tempered]]) -> str:
    """Return the tables of calibration errors and of temperatures.

    Args:
        choices: Result of :func:`choose` by row.
    """
    errors = [[shown(name), *map(_ece, tempered)] for name, tempered in choices.items()]
    temperatures = [[shown(name), *map(_range, tempered[1:])] for name, tempered in choices.items()]
    return "\n".join(
        [
            document.table(["ECE", "no temperature", "fitted", "shrunk"], errors),
            document.table(["temperatures", "fitted", "shrunk"], temperatures),
        ]
    )


def _ece(tempered: Tempered) -> str:
    ece = estimates(tempered.predictions, ("ece",))["ece"]
    return f"{ece.value:.3f} ({ece.low:.3f} to {ece.high:.3f})"


def _range(tempered: Tempered) -> str:
    return f"{min(tempered.temperatures):.2f} to {max(tempered.temperatures):.2f}"


def main() -> None:
    """Evaluate the rows and print the table."""
    options = make_parser(__doc__).parse_args()

    from pipeline.cross_validation import run as cross_validation  # slow to import

    rows, choices = rows_of(options.rows, options.seeds), {}
    with command.run_folder(options.root):
        for name, planned in plan_rows(rows, options.data, options.root):
            choices[name] = choose(planned, list(cross_validation.results(planned)))
    command.publish({"calibration": to_markdown(choices)}, options.write, keep_rows=options.keep_rows)


if __name__ == "__main__":
    main()
