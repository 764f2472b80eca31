"""Contribution of the variants of training clips: ``python -m benchmarks.augmentation --data DIR [--root DIR]``.

Cross-validates a family over an encoder with its first variants, with one more each, and with chains of the same
number, and predicts the test speakers' recordings under some of the changes of the acceptance tests. Folds and examples
are those of ``ser evaluate``, but each variant is ingested once for all rows. Results are files below ``--root``, so
that a stopped run resumes.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import command, document
from benchmarks.robustness import predict
from modules.audio.augmentation import PLAIN
from modules.audio.changes import Change, unchanged
from modules.audio.changes.background import with_noise
from modules.audio.changes.level import at_full_scale
from modules.audio.spec import AudioSpec
from modules.common.arrays import ArrayOnDisk
from modules.common.digest import digest
from modules.data import examples
from modules.data.statistics import Statistics
from modules.evaluation.acceptance.conditions import CONDITIONS as ACCEPTANCE
from modules.evaluation.intervals import Predictions, estimates, paired_differences

if TYPE_CHECKING:
    from pipeline.cross_validation.corpus import Corpus
    from pipeline.cross_validation.run import Plan

FIRST = "coloured_noise, babble, telephone, excerpt"
"""Row that the others are compared with."""

ROWS = (
    FIRST,
    *(f"{FIRST}, {added}" for added in ("room", "tilt", "codec", "hum", "music", "clipping", "gain")),
    "gain+coloured_noise, gain+babble, telephone, excerpt",
    "tilt+gain+coloured_noise, room+gain+babble, telephone, gain+excerpt",
)
"""Variants of each row in addition to the clips as they are."""

_OF_ACCEPTANCE = ("room: lecture, meeting or office", "upward tilt", "additive tone", "low-quality phone")
CONDITIONS: dict[str, Change] = {
    "as recorded": unchanged,
    **{each.name: each.change for each in ACCEPTANCE if each.name in _OF_ACCEPTANCE},
    "white noise, 10 dB SNR": with_noise(10),
    "peak at full scale": at_full_scale,
}

_CONDITIONS_IN_A_TABLE = 3
_BATCH = 512
_CHOICE_SPEAKERS = 12  # test speakers of the first three of the six folds


def table(predictions: Mapping[str, Mapping[str, Predictions]]) -> str:
    """Return UAR of the first row by condition, and the differences of the other rows to it.

    Args:
        predictions: Predictions by row and condition.
    """
    first = predictions[FIRST]
    names, tables = list(first), []
    for start in range(0, len(names), _CONDITIONS_IN_A_TABLE):
        chosen = names[start : start + _CONDITIONS_IN_A_TABLE]
        rows = [[_shown(row), *(_cell(of[name], first[name]) for name in chosen)] for row, of in predictions.items()]
        tables.append(document.table(["", *chosen], rows))
    return "\n".join(tables)


def _shown(row: str) -> str:
    added = row.removeprefix(f"{FIRST}, ")
    return f"`{row}`" if added == row else f"and `{added}`"


def _cell(predictions: Predictions, first: Predictions) -> str:
    if predictions is first:
        return document.percent_with_range(estimates(first, ("uar",))["uar"])
    return document.points(paired_differences(predictions, first, ("uar",))["uar"])


def of_first_speakers(predictions: Predictions, count: int) -> Predictions:
    """Return the predictions of the first speakers by name.

    Args:
        predictions: Predictions of all speakers.
        count: Number of speakers.
    """
    return predictions.take(np.isin(predictions.speakers, np.unique(predictions.speakers)[:count]))


def variants_of(row: str) -> tuple[str, ...]:
    """Return the variants of a row, the clips as they are first.

    Args:
        row: One of :data:`ROWS`.
    """
    return PLAIN, *row.split(", ")


def plan_row(whole: "Plan", row: str) -> "Plan":
    """Return the plan of a row.

    Args:
        whole: Plan with the variants of all rows.
        row: One of :data:`ROWS`.
    """
    variants = variants_of(row)
    augmentation = whole.config.augmentation.replace(variants=variants)
    config = whole.config.replace(augmentation=augmentation)
    return dataclasses.replace(whole, config=config, corpus=_with_variants(whole.corpus, variants, config.audio))


def _with_variants(corpus: "Corpus", variants: Iterable[str], spec: AudioSpec) -> "Corpus":
    """Return the examples of some variants, copied to a temporary file, as an ingestion of these alone has them."""
    chosen = np.flatnonzero(np.isin(corpus.columns[examples.AUGMENTATION], list(variants)))
    columns = {name: values[chosen] for name, values in corpus.columns.items()}
    features, statistics = ArrayOnDisk.temporary((len(chosen), *spec.feature_shape)), Statistics(spec)
    for start in range(0, len(chosen), _BATCH):
        rows = slice(start, start + _BATCH)
        features[rows] = values = corpus.features[chosen[rows]]
        statistics.add(values, columns[examples.VALID_FRAMES][rows], columns[examples.SPEAKER][rows])
    fingerprint = digest([corpus.fingerprint, list(variants)])
    return dataclasses.replace(
        corpus, fingerprint=fingerprint, columns=columns, features=features, statistics=statistics
    )


def main() -> None:
    """Measure the rows and print the tables of the first three folds and of all."""
    parser = command.make_folds_parser(__doc__)
    parser.add_argument("--family", default="encoder_linear", help="model family over an encoder")
    listed = "; ".join(f"{number}: {row}" for number, row in enumerate(ROWS))
    parser.add_argument("--rows", nargs="*", type=int, default=range(len(ROWS)), metavar="NUMBER", help=listed)
    options = parser.parse_args()
    rows = (FIRST, *(ROWS[number] for number in options.rows))
    everything = dict.fromkeys(variant for row in rows for variant in variants_of(row))
    settings = f"training.family={options.family}", f"augmentation.variants=[{', '.join(everything)}]"
    with command.run_folder(options.root):
        whole = command.plan_folds(options, *settings)
        plans = {row: plan_row(whole, row) for row in rows}
        predictions = predict(plans, options.data, options.root / "augmentation", CONDITIONS)
    choice = {
        row: {name: of_first_speakers(each, _CHOICE_SPEAKERS) for name, each in of.items()}
        for row, of in predictions.items()
    }
    tables = {"augmentation, three folds": table(choice), "augmentation": table(predictions)}
    command.publish(tables, options.write)


if __name__ == "__main__":
    main()
