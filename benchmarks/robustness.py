"""Results on recordings of lower quality than the training data: ``python -m benchmarks.robustness --data DIR``.

``--encoder`` evaluates the default family, with and without augmented copies, in place of the rows of the ablation.

Folds and models are those of ``benchmarks.ablation`` and of ``ser evaluate``; missing models are trained. Each model
predicts its test speakers' recordings, which are changed before any other step. Results of conditions are files below
``--root``, so that a stopped run resumes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks import command, document
from benchmarks.ablation import RECIPE, make_parser, plan_rows, rows_of, shown
from modules.audio.changes import Change, unchanged
from modules.audio.changes.background import with_babble, with_music, with_noise
from modules.audio.changes.channel import over_the_telephone
from modules.audio.changes.length import after_silence, first_part, one_second_of_speech
from modules.audio.changes.level import at_full_scale, with_gain
from modules.evaluation.intervals import Predictions, estimates, paired_differences

if TYPE_CHECKING:
    from pipeline.cross_validation.changed import Extracted
    from pipeline.cross_validation.run import Plan

ORIGINAL = "original_cnn"

_PARTS_IN_A_TABLE = 3

ENCODER = "training.family=encoder_cnn"
ENCODER_ROWS = {"`encoder_cnn`": (ENCODER,), "trained on plain clips": (ENCODER, "augmentation.variants=[plain]")}

CONDITIONS: dict[str, Change] = {
    "as recorded": unchanged,
    "white noise, 20 dB SNR": with_noise(20),
    "white noise, 10 dB SNR": with_noise(10),
    "white noise, 0 dB SNR": with_noise(0),
    "babble, 20 dB SNR": with_babble(20),
    "babble, 10 dB SNR": with_babble(10),
    "music, 20 dB SNR": with_music(20),
    "music, 10 dB SNR": with_music(10),
    "6 dB louder": with_gain(6),
    "6 dB softer": with_gain(-6),
    "peak at full scale": at_full_scale,
    "telephone band": over_the_telephone,
    "0.5 s of silence before": after_silence(0.5),
    "the first second alone": first_part(1),
    "one second of speech": one_second_of_speech,
}


def predict(
    plans: Mapping[str, "Plan"], data: Path, folder: Path, conditions: Mapping[str, Change] = CONDITIONS
) -> dict[str, dict[str, Predictions]]:
    """Return predictions of every clip by row and by condition, each of a model that did not train on its speaker.

    Args:
        plans: Plan of the cross-validation of each row.
        data: Folder of recordings.
        folder: Folder of the files of predictions.
        conditions: Changes by name.
    """
    from pipeline.cross_validation import run as cross_validation
    from pipeline.cross_validation.changed import ChangedRecordings, extract

    recordings = {
        name: ChangedRecordings(planned, list(cross_validation.results(planned)), data=data, folder=folder)
        for name, planned in plans.items()
    }
    answers: dict[str, dict[str, Predictions]] = {name: {} for name in plans}
    for condition, change in conditions.items():
        extracted: dict[str, Extracted] = {}  # by audio spec, which rows may share
        for name, planned in plans.items():
            spec = planned.config.audio.fingerprint
            if spec not in extracted and not recordings[name].path_of(condition, change).exists():
                extracted[spec] = extract(planned, data, condition, change)
            answers[name][condition] = recordings[name].predict(condition, change, extracted.get(spec))
    return answers


def families_table(recipe: Mapping[str, Predictions], original: Mapping[str, Predictions]) -> str:
    """Return UAR of the recipe and of the original network by condition.

    Args:
        recipe: Predictions of the recipe by condition.
        original: Predictions of the original network by condition.
    """
    heads = ["", "recipe: UAR %", f"{shown(ORIGINAL)}: UAR %", "difference"]
    lines = [
        [condition, _uar(recipe[condition]), _uar(original[condition]), _difference(recipe, original, condition)]
        for condition in recipe
    ]
    return document.table(heads, lines)


def encoder_table(predictions: Mapping[str, Mapping[str, Predictions]]) -> str:
    """Return UAR of the rows of :data:`ENCODER_ROWS` by condition, and the difference to the recordings as they are.

    Args:
        predictions: Predictions by row and condition.
    """
    first, plain = predictions.values()
    lines = [
        [condition, _uar(first[condition]), _loss(first, condition), _uar(plain[condition]), _loss(plain, condition)]
        for condition in first
    ]
    names = list(predictions)
    return document.table(["", f"{names[0]}: UAR %", "loss", f"{names[1]}: UAR %", "loss"], lines)


def _loss(predictions: Mapping[str, Predictions], condition: str) -> str:
    clean = next(iter(predictions.values()))
    return document.points(paired_differences(predictions[condition], clean, ("uar",))["uar"])


def parts_table(recipe: Mapping[str, Predictions], others: Mapping[str, Mapping[str, Predictions]]) -> str:
    """Return the recipe's UAR minus that of other rows, by condition, in tables of three rows each.

    Args:
        recipe: Predictions of the recipe by condition.
        others: Predictions of other rows by condition.
    """
    tables, parts = [], list(others)
    for first in range(0, len(parts), _PARTS_IN_A_TABLE):
        names = parts[first : first + _PARTS_IN_A_TABLE]
        lines = [[condition, *(_difference(recipe, others[name], condition) for name in names)] for condition in recipe]
        tables.append(document.table(["recipe less", *names], lines))
    return "\n".join(tables)


def _uar(predictions: Predictions) -> str:
    return document.percent_with_range(estimates(predictions, ("uar",))["uar"])


def _difference(recipe: Mapping[str, Predictions], other: Mapping[str, Predictions], condition: str) -> str:
    return document.points(paired_differences(recipe[condition], other[condition], ("uar",))["uar"])


def main() -> None:
    """Evaluate every condition and print the tables."""
    parser = make_parser(__doc__, seeds=False)
    parser.add_argument("--encoder", action="store_true", help="evaluate the family over an encoder instead")
    options = parser.parse_args()
    rows = ENCODER_ROWS if options.encoder else rows_of((*options.rows, ORIGINAL), seeds=1)
    with command.run_folder(options.root):
        plans = dict(plan_rows(rows, options.data, options.root))
        predictions = predict(plans, options.data, options.root / "robustness")
    if options.encoder:
        command.publish({"robustness of the encoder": encoder_table(predictions)}, options.write)
        return
    recipe, original = predictions.pop(RECIPE), predictions.pop(ORIGINAL)
    tables = {"robustness": families_table(recipe, original), "robustness of parts": parts_table(recipe, predictions)}
    command.publish(tables, options.write, keep_rows=options.keep_rows)


if __name__ == "__main__":
    main()
