"""Acceptance tests over the folds of a cross-validation: each recording by the model that is new to its speaker."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from components.audio_example_gen.corpora.demographics import demographics
from modules.data import examples
from modules.evaluation.acceptance.measure import KINDS, SEX, Kind, groups_of, of_predictions
from modules.reporting.summary import Acceptance
from pipeline.cross_validation import run as cross_validation
from pipeline.cross_validation.changed import ChangedRecordings
from pipeline.cross_validation.run import Plan

CHANGED_FOLDER = "changed"


def accept(
    planned: Plan,
    data: Path,
    *,
    kinds: Iterable[Kind] = KINDS,
    emotions: Sequence[str] | None = None,
) -> Acceptance:
    """Return the tests of all folds together; folds without a result are trained first.

    Args:
        planned: The folds.
        data: Folder of recordings.
        kinds: Kinds of tests.
        emotions: Emotions to compare; all of the model by default.

    Raises:
        modules.training.trainer.TrainingDiverged: A loss was not finite.
    """
    results = list(cross_validation.results(planned))
    folder = planned.folder.with_name(CHANGED_FOLDER)
    recordings = ChangedRecordings(planned, results, data=data, folder=folder)
    predictions = recordings.as_recorded
    return of_predictions(
        predictions,
        planned.corpus.emotions,
        _groups(planned, data, predictions.speakers.tolist()),
        kinds=kinds,
        emotions=emotions,
        predict=recordings.predict,
    )


def _groups(planned: Plan, data: Path, speakers: Sequence[str]) -> dict[str, list[str]]:
    columns = planned.corpus.columns
    sex_of = dict(zip(columns[examples.SPEAKER].tolist(), columns[examples.SEX].tolist(), strict=True))
    return groups_of(speakers, {SEX: sex_of} | demographics(str(data), sex_of))
