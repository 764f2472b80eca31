"""Contribution of the variants of training clips: ``python -m benchmarks.augmentation --data DIR [--root DIR]``.

Cross-validates a family over an encoder with its variants, with one more each, and with chains of the same number, and
predicts the test speakers' recordings under some of the changes of the acceptance tests. Folds and models are those of
``ser evaluate``; missing ones are trained. Results are files below ``--root``, so that a stopped run resumes.
"""

import os
from collections.abc import Mapping

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import command, document
from benchmarks.ablation import plan_rows
from benchmarks.robustness import predict
from modules.audio.augmentation import PLAIN
from modules.audio.changes import Change, unchanged
from modules.audio.changes.background import with_noise
from modules.evaluation.acceptance.conditions import CONDITIONS as ACCEPTANCE
from modules.evaluation.intervals import Predictions, estimates, paired_differences

FIRST = "coloured_noise, babble, telephone, excerpt"
"""Row that the others are compared with."""

ROWS = (
    FIRST,
    *(f"{FIRST}, {added}" for added in ("room", "tilt", "codec", "hum", "music", "clipping")),
    "tilt+coloured_noise, room+babble, telephone, excerpt",
    "room+coloured_noise, babble, tilt+telephone, excerpt",
    "room+tilt+coloured_noise, babble, telephone, tilt+excerpt",
)
"""Variants of each row in addition to the clips as they are."""

_OF_ACCEPTANCE = ("room: lecture, meeting or office", "upward tilt", "additive tone", "low-quality phone")
CONDITIONS: dict[str, Change] = {
    "as recorded": unchanged,
    **{each.name: each.change for each in ACCEPTANCE if each.name in _OF_ACCEPTANCE},
    "white noise, 10 dB SNR": with_noise(10),
}

_CONDITIONS_IN_A_TABLE = 3
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


def settings_of(family: str, row: str) -> tuple[str, ...]:
    """Return the settings of a row.

    Args:
        family: Name of the model family.
        row: One of :data:`ROWS`.
    """
    return f"training.family={family}", f"augmentation.variants=[{PLAIN}, {row}]"


def main() -> None:
    """Measure the rows and print the tables of the first three folds and of all."""
    parser = command.make_folds_parser(__doc__)
    parser.add_argument("--family", default="encoder_linear", help="model family over an encoder")
    listed = "; ".join(f"{number}: {row}" for number, row in enumerate(ROWS))
    parser.add_argument("--rows", nargs="*", type=int, default=range(len(ROWS)), metavar="NUMBER", help=listed)
    options = parser.parse_args()
    settings = {row: settings_of(options.family, row) for row in [FIRST, *(ROWS[number] for number in options.rows)]}
    with command.run_folder(options.root):
        plans = dict(plan_rows(settings, options.data, options.root))
        predictions = predict(plans, options.data, options.root / "augmentation", CONDITIONS)
    choice = {
        row: {name: of_first_speakers(each, _CHOICE_SPEAKERS) for name, each in of.items()}
        for row, of in predictions.items()
    }
    tables = {"augmentation, three folds": table(choice), "augmentation": table(predictions)}
    command.publish(tables, options.write)


if __name__ == "__main__":
    main()
