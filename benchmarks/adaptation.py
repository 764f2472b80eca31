"""Adaptation to unlabelled recordings of the target corpus: ``python -m benchmarks.adaptation --data DIR``.

Folds and models are those of ``ser evaluate --leave-corpus-out``. The speakers of the corpus that a model does not know
are halved: the recordings of one half, without labels, give mean and deviation for the answers to the other half.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import command, document
from modules.data.adaptation import Adaptation, adapt
from modules.data.dataset import Split
from modules.data.preprocessing import Constants
from modules.data.statistics import Statistics
from modules.evaluation.intervals import Predictions, estimates, paired_differences

if TYPE_CHECKING:
    from pipeline.cross_validation.folds import Fold
    from pipeline.cross_validation.run import Plan

_BATCH = 512


class Answers(NamedTuple):
    """Answers to the recordings of a corpus that no training data is from.

    Attributes:
        corpus: Name of the corpus.
        as_trained: Answers with the normalisation of the training data.
        adapted: Answers after the adaptation.
    """

    corpus: str
    as_trained: Predictions
    adapted: Predictions


def halves(speakers: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return every other speaker, and the rest."""
    return tuple(sorted(speakers)[::2]), tuple(sorted(speakers)[1::2])


def answer(planned: "Plan", fold: "Fold") -> Answers:
    """Return the answers of a fold's model to its test corpus."""
    from modules.training import trainer
    from pipeline.cross_validation import run as cross_validation
    from pipeline.cross_validation.corpus import split

    corpus = planned.corpus
    normalise = cross_validation.normaliser_of(planned, fold)
    model = cross_validation.trained_model(planned, fold)

    def plain(speakers: Sequence[str]) -> Split:
        positions = corpus.of(speakers, plain=True)
        return split(corpus, normalise, positions, max_bytes=planned.config.training.max_bytes)

    source = _constants(plain(fold.train), planned)
    parts = halves(fold.test)
    tested = [plain(part) for part in parts]
    targets = [_constants(part, planned) for part in reversed(tested)]
    rows = [trainer.predict(model, part) for part in tested]
    adapted = [
        trainer.predict(model, _adapted(part, Adaptation.between(target, source), planned))
        for part, target in zip(tested, targets, strict=True)
    ]
    labels = np.concatenate([part.emotion_ids for part in tested])
    speakers = [speaker for part in tested for speaker in part.speakers.tolist()]
    return Answers(
        corpus=fold.name.removeprefix("without "),
        as_trained=Predictions.of(labels, np.concatenate(rows), speakers),
        adapted=Predictions.of(labels, np.concatenate(adapted), speakers),
    )


def _batches(split: Split) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, len(split), _BATCH))


def _constants(split: Split, planned: "Plan") -> Constants:
    statistics = Statistics(planned.config.audio)
    for rows in _batches(split):
        everyone = np.full(len(split.valid_frames[rows]), "all")
        statistics.add(np.asarray(split.features[rows]), split.valid_frames[rows], everyone)
    return statistics.constants(["all"], "zscore")


def _adapted(split: Split, adaptation: Adaptation, planned: "Plan") -> Split:
    features = np.empty(split.features.shape, np.float32)
    for rows in _batches(split):
        normalised = np.asarray(split.features[rows])
        features[rows] = adapt(normalised, split.valid_frames[rows], adaptation, planned.config.audio)
    return dataclasses.replace(split, features=features)


def to_markdown(answers: Sequence[Answers]) -> str:
    """Return UAR with both normalisations, and their difference."""
    heads = ["corpus that is not trained on", "as trained: UAR %", "adapted: UAR %", "difference"]
    rows = []
    for each in answers:
        both = [document.percent_with_range(estimates(of, ("uar",))["uar"]) for of in (each.as_trained, each.adapted)]
        difference = paired_differences(each.adapted, each.as_trained, ("uar",))["uar"]
        rows.append([each.corpus, *both, document.points(difference)])
    return document.table(heads, rows)


def main() -> None:
    """Cross-validate, answer every corpus in both ways and print the table."""
    parser = command.make_folds_parser(__doc__)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    with command.run_folder(options.root):
        from pipeline.cross_validation import run as cross_validation  # slow to import
        from pipeline.default_family import on_this_machine

        default = f"training.family={on_this_machine().name}"  # an override may name another
        planned = command.plan_folds(options, default, *options.overrides, leave_corpus_out=True)

        answers = [
            answer(planned, fold) for fold, _ in zip(planned.folds, cross_validation.results(planned), strict=True)
        ]
    command.publish({"adaptation": to_markdown(answers)}, options.write)


if __name__ == "__main__":
    main()
