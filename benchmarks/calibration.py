"""What the temperature is worth: ``python -m benchmarks.calibration --data DIR [--root DIR] [--write FILE]``.

The folds of ``benchmarks.ablation`` are judged three times: with the models' answers as they are, with a temperature
that believes the fold's eval speakers as far as their clips go, and with the one that the pipeline gives them, which
doubts what few speakers say. Folds that the ablation trained below ``--root`` are read, others are trained first.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import document
from benchmarks.ablation import FOLDS, add_options, rows_of, shown
from modules.evaluation.calibration import fit_temperature, temper
from modules.evaluation.intervals import Predictions, estimates

if TYPE_CHECKING:
    from pipeline.cross_validation.run import FoldResult, Plan


class Tempered(NamedTuple):
    """A row's folds by one way of choosing temperatures."""

    temperatures: tuple[float, ...]
    predictions: Predictions


def choose(planned: "Plan", results: Sequence["FoldResult"]) -> tuple[Tempered, ...]:
    """Without temperatures, with fitted ones, and with those of the results."""
    used = [result.temperature for result in results]
    fitted = [_fitted(planned, result) for result in results]
    return tuple(_tempered(planned, results, chosen) for chosen in ([1.0] * len(results), fitted, used))


def _fitted(planned: "Plan", result: "FoldResult") -> float:
    """To the eval speakers, taking each clip for another speaker's, which leaves next to nothing to doubt."""
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
    """The same answers with another temperature in place of their own."""
    rows = temper(np.array(result.probabilities), temperature / result.temperature)
    return result.model_copy(update={"probabilities": tuple(map(tuple, rows.tolist())), "temperature": temperature})


def to_markdown(found: Mapping[str, Sequence[Tempered]]) -> str:
    """The table of calibration errors.

    Args:
        found: What :func:`choose` gave, by row.
    """
    heads = ["ECE", "no temperature", "fitted", "its temperatures", "fitted, and doubted", "its temperatures"]
    lines = [
        [shown(name), _ece(plain), _ece(fitted), _range(fitted), _ece(used), _range(used)]
        for name, (plain, fitted, used) in found.items()
    ]
    return document.table(heads, lines)


def _ece(tempered: Tempered) -> str:
    ece = estimates(tempered.predictions, ("ece",))["ece"]
    return f"{ece.value:.3f} ({ece.low:.3f} to {ece.high:.3f})"


def _range(tempered: Tempered) -> str:
    return f"{min(tempered.temperatures):.2f} to {max(tempered.temperatures):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    options = parser.parse_args()

    from pipeline.config import load_config
    from pipeline.cross_validation import run as cross_validation  # all of these take seconds
    from pipeline.run_lock import LOG_FILE, exclusive
    from pipeline.run_log import quiet

    found = {}
    with quiet(options.root / LOG_FILE), exclusive(options.root):
        for name, overrides in rows_of(options.rows, options.seeds).items():
            print(f"Row      {name}", file=sys.stderr, flush=True)
            config = load_config(overrides=overrides)
            planned = cross_validation.plan(config, data=options.data, root=options.root, folds=FOLDS)
            found[name] = choose(planned, list(cross_validation.results(planned)))
    text = to_markdown(found)
    print(text)
    if options.write:
        document.write(options.write, "calibration", text)


if __name__ == "__main__":
    main()
