"""Robustness: predictions that stay, and UAR that is lost, when recordings are changed."""

from collections.abc import Iterator

import numpy as np

from modules.evaluation.acceptance import bounds
from modules.evaluation.acceptance.checks import checks_of
from modules.evaluation.acceptance.conditions import Condition
from modules.evaluation.intervals import Predictions, estimate_of, paired_differences
from modules.reporting.summary import AcceptanceCheck


def robustness(
    condition: Condition, clean: Predictions, changed: Predictions, reference: Predictions | None = None
) -> Iterator[AcceptanceCheck]:
    """Yield the checks of a condition.

    Args:
        condition: The condition.
        clean: Predictions of the recordings as they are.
        changed: Predictions of the same recordings, changed.
        reference: Predictions of the same recordings under the condition's reference, if it has one.
    """
    before = clean if reference is None else reference
    same = (before.predicted == changed.predicted).astype(np.float64)
    speakers = len(set(clean.speakers))
    yield from checks_of(
        condition.test,
        [f"unchanged predictions, {condition.name}"],
        estimate_of(clean.speakers, lambda weights: weights @ same / weights.sum(axis=1)),
        bound=bounds.UNCHANGED_ABOVE[condition.test],
        kind="above",
        speakers=speakers,
    )
    if condition.test in bounds.UAR_CHANGE_ABOVE:
        yield from checks_of(
            condition.test,
            [f"change of UAR, {condition.name}"],
            paired_differences(changed, clean, ("uar",))["uar"],
            bound=bounds.UAR_CHANGE_ABOVE[condition.test],
            kind="above",
            speakers=speakers,
        )
