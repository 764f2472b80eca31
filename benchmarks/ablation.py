"""What each part of the recipe is worth: ``python -m benchmarks.ablation --data DIR [--root DIR] [--write FILE]``.

Cross-validates the default configuration, the same without one of its parts at a time or with one more, the original
network, and the default from other seeds, all over the same folds of speakers, and compares each with the default clip
by clip. What a fold gave is a file below ``--root``, so a run that was stopped goes on where it was, and
``ser evaluate`` with the same root shares them.
"""

import argparse
import dataclasses
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks import document
from benchmarks.corpora import add_data_argument
from modules.evaluation.intervals import Predictions, estimates, paired_differences, point_estimates

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

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
"""What a row sets differently from the default configuration, in the order of how much they are wanted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """A row's answers.

    Attributes:
        predictions: Of every clip, ordered by clip.
        fold_uars: UAR of each fold.
        seconds: A fold took on average, training and asking.
        train_speakers: And ``eval_speakers``: in the first fold.
    """

    predictions: Predictions
    fold_uars: tuple[float, ...]
    parameters: int
    seconds: float
    train_speakers: int
    eval_speakers: int


def rows_of(names: Sequence[str], seeds: int) -> dict[str, tuple[str, ...]]:
    """What is set in each row: the recipe, the named ones, and the recipe from the other seeds.

    Raises:
        ValueError: There is no such row.
    """
    unknown = sorted(set(names) - set(ROWS))
    if unknown:
        raise ValueError(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    chosen = {name: settings for name, settings in ROWS.items() if name in (RECIPE, *names)}
    return chosen | {f"recipe, seed {seed}": (f"training.seed={seed}",) for seed in range(1, seeds)}


def score(config: "PipelineConfig", data: Path, root: Path) -> Scored:
    """Trains the folds that have no result yet, and reads all of them."""
    from pipeline.cross_validation import run as cross_validation

    planned = cross_validation.plan(config, data=data, root=root, folds=FOLDS)
    found = list(cross_validation.results(planned))
    of_folds = [point_estimates(cross_validation.predictions(planned, [result]), ("uar",)) for result in found]
    return Scored(
        predictions=cross_validation.predictions(planned, found),
        fold_uars=tuple(float(scores["uar"]) for scores in of_folds),
        parameters=found[0].parameters,
        seconds=statistics.mean(result.seconds for result in found),
        train_speakers=len(found[0].train),
        eval_speakers=len(found[0].eval),
    )


def to_markdown(scored: Mapping[str, Scored]) -> str:
    """The table, and what to know to read it."""
    heads = ["", "UAR %", "interval", "difference", "folds", "mean ± sd of the folds", "accuracy %", "ECE"]
    heads += ["parameters", "s a fold"]
    recipe = scored[RECIPE]
    lines = [_cells(name, row, recipe) for name, row in scored.items()]
    seeds = [float(point_estimates(row.predictions, ("uar",))["uar"]) for name, row in scored.items() if _is_seed(name)]
    clips, speakers = len(recipe.predictions.labels), len(set(recipe.predictions.speakers))
    sentences = [
        f"{clips} clips of {speakers} speakers, each judged by the one model of {len(recipe.fold_uars)} that had not "
        f"heard its speaker; the recipe trains on {recipe.train_speakers} speakers and calibrates on "
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
    return document.table(heads, lines) + "\n" + " ".join(sentences)


def _cells(name: str, row: Scored, recipe: Scored) -> list[str]:
    found = estimates(row.predictions, METRICS)
    difference = (
        "" if row is recipe else document.points(paired_differences(row.predictions, recipe.predictions)["uar"])
    )
    uar = found["uar"]
    return [
        shown(name),
        document.percent(float(uar.value)),
        document.percent_range(float(uar.low), float(uar.high)),
        difference,
        ", ".join(document.percent(value) for value in row.fold_uars),
        f"{document.percent(statistics.mean(row.fold_uars))} ± {document.percent(statistics.stdev(row.fold_uars))}",
        document.percent(float(found["accuracy"].value)),
        f"{float(found['ece'].value):.3f}",
        f"{row.parameters:,}".replace(",", " "),
        f"{row.seconds:.0f}",
    ]


def shown(row: str) -> str:
    """Its name in a table; that of a family is code."""
    return f"`{row}`" if row == "original_cnn" else row


def _is_seed(name: str) -> bool:
    return name.startswith(RECIPE)


def add_options(parser: argparse.ArgumentParser, *, seeds: bool = True) -> None:
    """What every benchmark of these rows can be told.

    Args:
        seeds: Whether the recipe is trained from several.
    """
    add_data_argument(parser)
    parser.add_argument("--root", type=Path, default=Path("output"), help="where features and results are kept")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    if seeds:
        parser.add_argument("--seeds", type=int, default=3, help="the recipe is trained from so many")
    parser.add_argument("--write", type=Path, metavar="FILE", help="puts each table between its markers, too")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    options = parser.parse_args()
    chosen = rows_of(options.rows, options.seeds)

    from pipeline.config import load_config  # both take seconds
    from pipeline.run_lock import LOG_FILE, exclusive
    from pipeline.run_log import quiet

    scored = {}
    with quiet(options.root / LOG_FILE), exclusive(options.root):
        for number, (name, overrides) in enumerate(chosen.items(), start=1):
            print(f"Row      {number}/{len(chosen)}  {name}", file=sys.stderr, flush=True)
            scored[name] = score(load_config(overrides=overrides), options.data, options.root)
    text = to_markdown(scored)
    print(text)
    if options.write:
        document.write(options.write, "ablation", text)


if __name__ == "__main__":
    main()
