"""All acceptance tests of a set of predictions."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from modules.audio import containers
from modules.audio.changes import Change
from modules.evaluation.acceptance import correctness
from modules.evaluation.acceptance.checks import among
from modules.evaluation.acceptance.conditions import CONDITIONS, REFERENCES, Condition
from modules.evaluation.acceptance.fairness import UNKNOWN, fairness
from modules.evaluation.acceptance.robustness import robustness
from modules.evaluation.intervals import Predictions
from modules.reporting.summary import Acceptance, AcceptanceCheck, SkippedTest

Kind = Literal["correctness", "fairness", "robustness"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SEX = "sex"

PredictChanged = Callable[[str, Change], Predictions]
"""Function from the name of a change, and the change, to the predictions of all clips, changed."""

Result = AcceptanceCheck | SkippedTest


def of_predictions(
    predictions: Predictions,
    classes: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    *,
    kinds: Iterable[Kind] = KINDS,
    emotions: Iterable[str] | None = None,
    predict: PredictChanged | None = None,
) -> Acceptance:
    """Return the tests of predictions; those of robustness need a function that predicts changed recordings.

    Args:
        predictions: Predictions of the clips.
        classes: Names of the classes.
        groups: Group of each clip's speaker, ``[clips]``, by name of the property, such as ``sex``.
        kinds: Kinds of tests.
        emotions: Classes to compare, see :func:`modules.evaluation.acceptance.checks.among`; all by default.
        predict: Predicts the same clips, changed; without it robustness is not tested.
    """
    compared = tuple(classes if emotions is None else emotions)
    chosen, names, kept = among(predictions, classes, compared)
    results: list[Result] = []
    if "correctness" in kinds:
        results += correctness.classification(chosen, names)
        results += correctness.distribution(chosen, names)
        results += correctness.of_speakers(chosen, names)
    if "fairness" in kinds:
        for property_name, values in groups.items():
            results += fairness(f"fairness_{property_name}", chosen, names, np.asarray(values, dtype=np.str_)[kept])
    if "robustness" in kinds and predict is not None:
        results += _robustness(predictions, classes, compared, predict)
    return Acceptance(
        emotions=names,
        clips=len(chosen.labels),
        speakers=len(set(chosen.speakers)),
        checks=tuple(each for each in results if isinstance(each, AcceptanceCheck)),
        skipped=tuple(each for each in results if isinstance(each, SkippedTest)),
    )


def groups_of(speakers: Sequence[str], group_of: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the group of each clip's speaker by property; ``unknown`` where the speaker has none.

    Args:
        speakers: Speaker of each clip.
        group_of: Group by speaker, by name of the property.
    """
    return {name: [groups.get(speaker, UNKNOWN) for speaker in speakers] for name, groups in group_of.items()}


def _robustness(
    predictions: Predictions, classes: Sequence[str], emotions: tuple[str, ...], predict: PredictChanged
) -> Iterator[Result]:
    @functools.cache
    def under(name: str, change: Change) -> Predictions:
        return among(predict(name, change), classes, emotions)[0]

    clean, _, _ = among(predictions, classes, emotions)
    for condition in CONDITIONS:
        if reason := _why_not(condition, speakers=len(set(predictions.speakers))):
            yield SkippedTest(test=condition.test, reason=f"{condition.name}: {reason}")
            continue
        name = condition.reference
        reference = under(name, REFERENCES[name]) if name else None
        yield from robustness(condition, clean, under(condition.name, condition.change), reference)


def _why_not(condition: Condition, *, speakers: int) -> str:
    """Return why a condition cannot be made; empty if it can."""
    if condition.needs_voices and speakers < 2:
        return "the data have no other speaker"
    if condition.needs_codec and not containers.can_read():
        return f"its codec is missing; {containers.INSTALL}"
    return ""
