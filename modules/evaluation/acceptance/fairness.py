"""Fairness: recall and precision of a group of speakers against those of all groups.

ser-tests draws 1000 clips of each group with similar labels. Here each clip is weighted instead: every group counts
the same, and each emotion has its share of all clips in every group.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from modules.evaluation.acceptance import bounds
from modules.evaluation.acceptance.checks import checks_of, confusions
from modules.evaluation.intervals import Estimate, Predictions, confusion_scores, estimate_of
from modules.reporting.summary import MIN_INTERVAL_SPEAKERS, AcceptanceCheck, SkippedTest

UNKNOWN = "unknown"


def fairness(
    test: str, predictions: Predictions, classes: Sequence[str], group_of: Sequence[str]
) -> Iterator[AcceptanceCheck | SkippedTest]:
    """Yield the checks of each group with five speakers or more: UAR, and recall and precision of each class.

    Args:
        test: Name of the test.
        predictions: Predictions of the clips.
        classes: Names of the classes.
        group_of: Group of each clip's speaker, ``[clips]``; ``unknown`` is left out.
    """
    values = np.asarray(group_of, dtype=np.str_)
    speakers = {name: len(set(predictions.speakers[values == name])) for name in np.unique(values) if name != UNKNOWN}
    small = [f"{name} ({count})" for name, count in speakers.items() if count < MIN_INTERVAL_SPEAKERS]
    groups = [str(name) for name, count in speakers.items() if count >= MIN_INTERVAL_SPEAKERS]
    if small:
        reason = f"groups of fewer than {MIN_INTERVAL_SPEAKERS} speakers are left out: {', '.join(small)}"
        yield SkippedTest(test=test, reason=reason)
    if len(groups) < 2:
        reason = f"the test needs two groups of {MIN_INTERVAL_SPEAKERS} speakers; there are {len(groups)}"
        yield SkippedTest(test=test, reason=reason)
        return
    chosen = np.isin(values, groups)
    differences = _differences(predictions.take(chosen), values[chosen], groups)
    bound_of = bounds.TWO_GROUPS_WITHIN if len(groups) == 2 else bounds.MORE_GROUPS_WITHIN
    for index, group in enumerate(groups):
        of_group = Estimate(
            differences.value[index], differences.low[index], differences.high[index], differences.resampled
        )
        yield from _checks(test, of_group, group, classes, bound_of, speakers[group])


def _checks(
    test: str, of_group: Estimate, group: str, classes: Sequence[str], bound_of: dict[str, float], speakers: int
) -> Iterator[AcceptanceCheck]:
    """Yield the checks of a group from its differences, ``[1 + classes + classes]``: UAR, recalls, precisions."""
    size = len(classes)
    parts = (
        (slice(0, 1), [f"UAR, {group}"], bounds.GROUP_UAR_WITHIN),
        (slice(1, 1 + size), [f"recall of {name}, {group}" for name in classes], bound_of["recall"]),
        (slice(1 + size, None), [f"precision of {name}, {group}" for name in classes], bound_of["precision"]),
    )
    for rows, names, bound in parts:
        part = Estimate(of_group.value[rows], of_group.low[rows], of_group.high[rows], of_group.resampled)
        yield from checks_of(test, names, part, bound=bound, kind="within", speakers=speakers)


def _differences(predictions: Predictions, group_of: np.ndarray, groups: Sequence[str]) -> Estimate:
    """Return the scores of each group minus those of all groups, ``[groups, 1 + classes + classes]``."""
    shares = np.bincount(predictions.labels, minlength=predictions.classes) / len(predictions.labels)
    masks = [(group_of == group).astype(np.float64) for group in groups]

    def difference(weights: np.ndarray) -> np.ndarray:
        of_groups = np.stack([confusions(weights * mask, predictions) for mask in masks], axis=1)
        clips = of_groups.sum(axis=-1, keepdims=True)
        recalls = np.divide(of_groups, clips, out=np.zeros_like(of_groups), where=clips > 0)
        balanced = recalls * shares[:, None]
        present = np.maximum((clips > 0).sum(axis=1, keepdims=True), 1)
        together = balanced.sum(axis=1, keepdims=True) / present
        return _scores(balanced) - _scores(together)

    return estimate_of(predictions.speakers, difference)


def _scores(matrices: np.ndarray) -> np.ndarray:
    """Return UAR, recalls and precisions, ``[..., classes, classes]`` -> ``[..., 1 + classes + classes]``."""
    with np.errstate(invalid="ignore"):  # the accuracy of a resample without a group, which is not used
        scores = confusion_scores(matrices)
    return np.concatenate([scores["uar"][..., None], scores["class_recall"], scores["class_precision"]], axis=-1)
