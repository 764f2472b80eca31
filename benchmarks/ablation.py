"""Contribution of each part of the recipe: ``python -m benchmarks.ablation --data DIR [--root DIR] [--write FILE]``.

Cross-validates the default configuration, the same without one of its parts at a time or with one more, the original
network, and the default from other seeds, all over the same folds of speakers, and compares each with the default clip
by clip. Results of folds are files below ``--root``, so that a stopped run resumes, and ``ser evaluate`` with the same
root shares them. ``--rows original_cnn --seeds 1 --keep-rows`` measures one row and the recipe, and writes no others.
"""

import argparse
import dataclasses
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks import command, document
from modules.evaluation.intervals import Predictions, estimates, paired_differences, point_estimates

if TYPE_CHECKING:
    from pipeline.cross_validation.run import Plan

FOLDS = 6
RECIPE = "recipe"
METRICS = ("uar", "accuracy", "ece")

ROWS: dict[str, tuple[str, ...]] = {
    RECIPE: (),
    "original_cnn": ("training.family=original_cnn",),
    "without noise": ("training.hyperparameters={noise: 0}",),
    "without mixup": ("training.mixup=0",),
    "without band shift and stretch": ("training.hyperparameters={band_shift: 0, band_stretch: 0}",),
    "without masks": ("training.hyperparameters={masks: 0}",),
    "without gain": ("training.hyperparameters={gain: 0}",),
    "with time jitter": ("training.hyperparameters={time_jitter: 0.06}",),
}
"""Settings of each row that differ from the default configuration, the most important first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """Predictions of a row.

    Attributes:
        predictions: Predictions of every clip, ordered by clip.
        fold_uars: UAR of each fold.
        parameters: Number of parameters of the model.
        seconds: Mean duration of a fold, training and prediction.
        train_speakers: Number of training speakers of the first fold.
        eval_speakers: Number of eval speakers of the first fold.
    """

    predictions: Predictions
    fold_uars: tuple[float, ...]
    parameters: int
    seconds: float
    train_speakers: int
    eval_speakers: int


def rows_of(names: Sequence[str], seeds: int) -> dict[str, tuple[str, ...]]:
    """Return the settings of each row: the recipe, the named ones, and the recipe from the other seeds.

    Args:
        names: Names of rows.
        seeds: Number of seeds of the recipe.

    Raises:
        ValueError: A row does not exist.
    """
    unknown = sorted(set(names) - set(ROWS))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is not a row; allowed: {', '.join(ROWS)}")
    chosen = {name: settings for name, settings in ROWS.items() if name in (RECIPE, *names)}
    return chosen | {f"recipe, seed {seed}": (f"training.seed={seed}",) for seed in range(1, seeds)}


def plan_rows(rows: Mapping[str, tuple[str, ...]], data: Path, root: Path) -> Iterator[tuple[str, "Plan"]]:
    """Yield each row with the plan of its cross-validation, and log its name.

    Args:
        rows: Settings by name of the row.
        data: Folder of recordings.
        root: Folder of features and results.
    """
    from pipeline.config import load_config
    from pipeline.cross_validation import run as cross_validation  # slow to import

    for number, (name, overrides) in enumerate(rows.items(), start=1):
        print(f"Row      {number}/{len(rows)}  {name}", file=sys.stderr, flush=True)
        yield name, cross_validation.plan(load_config(overrides=overrides), data=data, root=root, folds=FOLDS)


def score(planned: "Plan") -> Scored:
    """Train the folds that have no result yet, and return the results of all folds.

    Args:
        planned: Plan of the row.
    """
    from pipeline.cross_validation import run as cross_validation

    results = list(cross_validation.results(planned))
    of_folds = [point_estimates(cross_validation.predictions(planned, [result]), ("uar",)) for result in results]
    return Scored(
        predictions=cross_validation.predictions(planned, results),
        fold_uars=tuple(float(scores["uar"]) for scores in of_folds),
        parameters=results[0].parameters,
        seconds=statistics.mean(result.seconds for result in results),
        train_speakers=len(results[0].train),
        eval_speakers=len(results[0].eval),
    )


def to_markdown(scored: Mapping[str, Scored]) -> str:
    """Return the tables of metrics and of folds, and their explanation."""
    recipe = scored[RECIPE]
    metrics = document.table(
        ["", "UAR %", "difference", "accuracy %", "ECE"],
        [[shown(name), *_metrics(row, recipe)] for name, row in scored.items()],
    )
    folds = document.table(
        ["", "UAR % of the folds", "mean ± sd", "parameters", "s a fold"],
        [[shown(name), *_folds(row)] for name, row in scored.items()],
    )
    seeds = [float(point_estimates(row.predictions, ("uar",))["uar"]) for name, row in scored.items() if _is_seed(name)]
    clips, speakers = len(recipe.predictions.labels), len(set(recipe.predictions.speakers))
    sentences = [
        f"{clips} clips of {speakers} speakers, each predicted by the one of {len(recipe.fold_uars)} models that was "
        f"not trained on its speaker; the recipe trains on {recipe.train_speakers} speakers and calibrates on "
        f"{recipe.eval_speakers}. Intervals: 95 %, bootstrap over speakers; of the difference to the recipe, paired on "
        "the same clips."
    ]
    if len(seeds) > 1:
        sentences.append(
            f"The recipe's UAR over {len(seeds)} seeds: {document.percent(statistics.mean(seeds))} % on average, "
            f"standard deviation {100 * statistics.stdev(seeds):.1f}."
        )
    missing = [name for name in ROWS if name not in scored]
    if missing:
        sentences.append(f"Not run: {'; '.join(missing)}.")
    return "\n".join([metrics, folds, " ".join(sentences)])


def _metrics(row: Scored, recipe: Scored) -> list[str]:
    metrics = estimates(row.predictions, METRICS)
    difference = (
        "" if row is recipe else document.points(paired_differences(row.predictions, recipe.predictions)["uar"])
    )
    return [
        document.percent_with_range(metrics["uar"]),
        difference,
        document.percent(float(metrics["accuracy"].value)),
        f"{float(metrics['ece'].value):.3f}",
    ]


def _folds(row: Scored) -> list[str]:
    return [
        ", ".join(document.percent(value) for value in row.fold_uars),
        f"{document.percent(statistics.mean(row.fold_uars))} ± {document.percent(statistics.stdev(row.fold_uars))}",
        f"{row.parameters:,}".replace(",", " "),
        f"{row.seconds:.0f}",
    ]


def shown(row: str) -> str:
    """Return the name of a row in a table; names of families are code."""
    return f"`{row}`" if row == "original_cnn" else row


def _is_seed(name: str) -> bool:
    return name.startswith(RECIPE)


def make_parser(description: str | None, *, seeds: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options of the benchmarks of these rows.

    Args:
        description: Docstring of the benchmark.
        seeds: Whether the recipe is trained from several seeds.
    """
    parser = command.make_folds_parser(description)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--keep-rows", action="store_true", help="keep the other rows of the tables in the document")
    if seeds:
        parser.add_argument("--seeds", type=int, default=3, help="number of seeds for the recipe")
    return parser


def main() -> None:
    """Cross-validate the rows and print the table."""
    options = make_parser(__doc__).parse_args()
    rows = rows_of(options.rows, options.seeds)
    with command.run_folder(options.root):
        scored = {name: score(planned) for name, planned in plan_rows(rows, options.data, options.root)}
    command.publish({"ablation": to_markdown(scored)}, options.write, keep_rows=options.keep_rows)


if __name__ == "__main__":
    main()
