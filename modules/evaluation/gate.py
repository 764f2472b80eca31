"""Whether a candidate may be served: each check in numbers and words, and the decision that follows from them.

Pure: what TFMA measured and what the model answered come in, a verdict goes out.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from modules.common.settings import Settings
from modules.data.splits import TEST
from modules.reporting.summary import Baseline, Check, Evaluation, Protocol, Verdict

Slice = tuple[tuple[str, str], ...]
"""Pairs of a feature and its value; empty for the whole split."""

SliceColumn = Literal["corpus", "sex", "intensity"]
IncomparableBaseline = Literal["skip_comparison", "reject"]

FINITE = "Finite predictions"
TFMA = "TFMA's thresholds"
COMPARABLE = "Comparable baseline"

_WHOLE: Slice = ()


class GateSettings(Settings):
    """Conditions on the test split for blessing a candidate.

    UAR is the unweighted average recall, 0 to 1. ``max_uar_loss`` must leave room for chance: models that differ in the
    seed alone differed by 3.1 % UAR (standard deviation) on four speakers of RAVDESS, so that 2 % would reject 27 % of
    all ties, and 5 % rejects 5 %.
    """

    min_uar: float = Field(
        0.25, ge=0, le=1, description="Floor of the UAR; neither the UAR nor its whole interval may lie below."
    )
    max_uar_loss: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest loss of UAR against the blessed baseline, significant or not. A significant loss, where "
        "the whole interval of the paired difference lies below zero, is rejected however small it is.",
    )
    min_slice_uar: float = Field(0.15, ge=0, le=1, description="Floor of the UAR of every slice.")
    slices: tuple[SliceColumn, ...] = Field(("corpus", "sex"), description="Columns that the test split is sliced by.")
    min_test_clips: int = Field(20, ge=1, description="With fewer test clips nothing is blessed.")
    min_test_speakers: int = Field(2, ge=1, description="With fewer test speakers nothing is blessed.")
    incomparable_baseline: IncomparableBaseline = Field(
        "skip_comparison",
        description="What decides on a candidate that cannot be compared with the blessed baseline: "
        "`skip_comparison` leaves it to the other checks, `reject` rejects it. A baseline cannot be compared if it has "
        "another audio spec or other emotions, or if fewer than `min_test_speakers` or `min_test_clips` are left "
        "without the test speakers that it was trained on.",
    )
    override: str = Field(
        "",
        description="Name of a person and a reason: blesses the candidate despite failed checks, and is recorded in "
        "the blessing, the verdict and the report. A model with non-finite predictions stays rejected.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a candidate on ``test``.

    Attributes:
        evaluation: Its metrics with intervals.
        uars: TFMA's UAR by slice.
        tfma_passed: Whether every threshold that TFMA was given holds.
        baseline: The candidate beside the blessed model, on the test speakers who are not ``heard``; none where there
            is no such model, it cannot be asked, or nobody is left.
        missing: Where the files of the blessed model should be, if they are gone.
        incomparable: Why the blessed model cannot be asked about the same examples, where that is so.
        heard: Test speakers whom the blessed model was trained on, by :func:`heard_by_baseline_alone`. None where it
            does not say whom it was trained on.
    """

    evaluation: Evaluation
    uars: Mapping[Slice, float]
    tfma_passed: bool
    baseline: Baseline | None = None
    missing: str | None = None
    incomparable: str | None = None
    heard: tuple[str, ...] | None = ()


def heard_by_baseline_alone(candidate: Protocol, baseline: Protocol) -> tuple[str, ...]:
    """The candidate's test speakers whom the baseline was trained on and the candidate was not.

    Asked about them, the baseline remembers where the candidate must generalise. Where clips are dealt out to the
    splits at random, both remember.
    """
    return tuple(sorted(set(candidate.speakers[TEST]) & baseline.heard - candidate.heard))


def compared(evidence: Evidence, settings: GateSettings) -> Baseline | None:
    """The comparison that counts: none where too few test speakers are left that the baseline had not heard."""
    found = evidence.baseline
    if found is None or not evidence.heard:
        return found
    enough = found.speakers >= settings.min_test_speakers and found.clips >= settings.min_test_clips
    return found if enough else None


def judge(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Blesses the candidate if every check passes, or if someone overrides the gate and no fault forbids it."""
    checks = tuple(_checks(evidence, settings))
    failed = [check for check in checks if not check.passed]
    if not failed:
        return Verdict(blessed=True, checks=checks, reasons=("Every check passed.",))
    # TFMA's thresholds are among the other checks, which say more.
    reasons = tuple(check.text for check in failed if check.name != TFMA) or (failed[0].text,)
    if not settings.override or any(check.name == FINITE for check in failed):
        return Verdict(blessed=False, checks=checks, reasons=reasons)
    head = f"Blessed by override, although {len(failed)} of {len(checks)} checks failed."
    return Verdict(blessed=True, checks=checks, reasons=(head, *reasons), override=settings.override)


def _checks(evidence: Evidence, settings: GateSettings) -> Iterator[Check]:
    evaluation = evidence.evaluation
    yield _count_check("Test clips", evaluation.clips, settings.min_test_clips)
    yield _count_check("Test speakers", evaluation.speakers, settings.min_test_speakers)
    yield _finite_check(evaluation)
    yield _variety_check(evaluation)
    yield _floor_check(evidence.uars, _WHOLE, settings.min_uar)
    yield _interval_check(evaluation, settings.min_uar)
    yield from _baseline_checks(evidence, settings)
    for column in settings.slices:
        yield from _slice_checks(evidence.uars, column, settings.min_slice_uar)
    text = "TFMA found every threshold kept." if evidence.tfma_passed else "TFMA found a threshold violated."
    yield Check(name=TFMA, passed=evidence.tfma_passed, text=text)


def _count_check(name: str, count: int, least: int) -> Check:
    text = f"{name}: {count}; there must be at least {least} for a verdict."
    return Check(name=name, value=count, bound=least, passed=count >= least, text=text)


def _finite_check(evaluation: Evaluation) -> Check:
    bad = evaluation.non_finite_predictions
    text = f"The answer to {bad} of {evaluation.clips} clips is not a number." if bad else "Every answer is a number."
    return Check(name=FINITE, value=bad, bound=0, passed=bad == 0, text=text)


def _variety_check(evaluation: Evaluation) -> Check:
    """A model that names one emotion whatever it hears."""
    named = sum(any(row[column] for row in evaluation.confusion) for column in range(len(evaluation.classes)))
    if not evaluation.confusion:
        text = "Which emotions the model names is unknown, since no metric could be computed."
    elif named < 2:
        text = "The model names one and the same emotion for every clip."
    else:
        text = f"The model names {named} different emotions."
    return Check(name="Different answers", value=named, bound=2, passed=named >= 2, text=text)


def _floor_check(uars: Mapping[Slice, float], where: Slice, floor: float) -> Check:
    name = "UAR" + "".join(f" of {column} {value}" for column, value in where)
    if where not in uars:
        return Check(name=name, bound=floor, passed=False, text=f"{name} is missing from TFMA's results.")
    value = uars[where]
    passed = value >= floor  # false for NaN
    text = f"{name} is {'' if passed else 'only '}{value:.1%}; it must be at least {floor:.1%}."
    return Check(name=name, value=value, bound=floor, passed=passed, text=text)


def _interval_check(evaluation: Evaluation, floor: float) -> Check:
    name = "UAR's interval"
    uar = evaluation.metric("uar")
    if uar is None or uar.low is None or uar.high is None:
        return Check(name=name, bound=floor, passed=False, text=f"{name} cannot be computed from these predictions.")
    passed = uar.high >= floor
    reach = "reaches" if passed else "lies wholly below"
    text = f"{name}, {uar.low:.1%} to {uar.high:.1%}, {reach} the floor of {floor:.1%}."
    return Check(name=name, value=uar.high, bound=floor, passed=passed, text=text)


def _baseline_checks(evidence: Evidence, settings: GateSettings) -> Iterator[Check]:
    comparison = compared(evidence, settings)
    if evidence.missing:
        text = (
            f"The files of the blessed baseline, {evidence.missing}, are gone, and no pushed version was copied from "
            "them: whether the candidate is worse is unknown. Set gate.override to bless it all the same."
        )
        yield Check(name=COMPARABLE, passed=False, text=text)
    elif evidence.incomparable:
        text = f"The blessed baseline cannot be asked about these examples, {evidence.incomparable}"
        yield _incomparable_check(text, settings)
    elif comparison is None and evidence.evaluation.non_finite_predictions:
        yield Check(name=COMPARABLE, passed=False, text="Answers that are no numbers cannot be compared.")
    elif comparison is None and evidence.heard:
        yield _heard_check(evidence, evidence.heard, settings)
    elif comparison is None:
        text = "There is no blessed model to compare with: the candidate is judged alone."
        yield Check(name=COMPARABLE, passed=True, text=text)
    else:
        yield _compared_check(comparison, evidence.heard, settings)
        yield from _difference_checks(comparison, settings.max_uar_loss)


def _incomparable_check(why: str, settings: GateSettings, value: float | None = None) -> Check:
    alone = settings.incomparable_baseline == "skip_comparison"
    consequence = "the candidate is judged alone" if alone else "gate.incomparable_baseline rejects such a candidate"
    bound = None if alone or value is None else settings.min_test_speakers  # judged alone, nothing is bounded by it
    return Check(name=COMPARABLE, value=value, bound=bound, passed=alone, text=f"{why}: {consequence}.")


def _heard_check(evidence: Evidence, heard: tuple[str, ...], settings: GateSettings) -> Check:
    speakers = evidence.evaluation.speakers
    clips = evidence.baseline.clips if evidence.baseline else 0
    why = (
        f"Not comparable: {len(heard)} of {speakers} test speakers were heard by the blessed baseline in training, "
        f"which flatters it, and the other {speakers - len(heard)}, with {clips} clips, are too few "
        f"(gate.min_test_speakers is {settings.min_test_speakers}, gate.min_test_clips {settings.min_test_clips})"
    )
    return _incomparable_check(why, settings, value=speakers - len(heard))


def _compared_check(comparison: Baseline, heard: tuple[str, ...] | None, settings: GateSettings) -> Check:
    if heard is None:
        text = (
            "Whom the blessed baseline was trained on is not recorded: test speakers may be among them and flatter it."
        )
        return Check(name=COMPARABLE, passed=True, text=text)
    text = f"The blessed baseline was trained on none of the {comparison.speakers} test speakers."
    if heard:
        text = (
            f"{len(heard)} of {comparison.speakers + len(heard)} test speakers were heard by the blessed baseline in "
            f"training: the two are compared on the other {comparison.speakers} alone, {comparison.clips} clips."
        )
    bound = settings.min_test_speakers if heard else None
    return Check(name=COMPARABLE, value=comparison.speakers, bound=bound, passed=True, text=text)


def _difference_checks(baseline: Baseline, max_loss: float) -> Iterator[Check]:
    name = "UAR against the blessed baseline"
    found = next((each for each in baseline.differences if each.name == "uar"), None)
    if found is None or found.difference is None or found.low is None or found.high is None:
        yield Check(name=name, bound=-max_loss, passed=False, text=f"{name} cannot be computed from these predictions.")
        return
    text = f"{name} is {found.difference:+.1%}; it may be at most {max_loss:.1%} lower."
    passed = found.difference >= -max_loss
    yield Check(name=name, value=found.difference, bound=-max_loss, passed=passed, text=text)
    significance = "reaches zero" if found.high >= 0 else "lies wholly below zero: significantly worse"
    text = f"The interval of the difference in UAR, {found.low:+.1%} to {found.high:+.1%}, {significance}."
    name = "Interval of the difference in UAR"
    yield Check(name=name, value=found.high, bound=0, passed=found.high >= 0, text=text)


def _slice_checks(uars: Mapping[Slice, float], column: str, floor: float) -> Iterator[Check]:
    slices = [where for where in uars if [name for name, _ in where] == [column]]
    if not slices:
        text = f"TFMA's results hold no UAR by {column}."
        yield Check(name=f"UAR by {column}", bound=floor, passed=False, text=text)
    for where in sorted(slices):
        yield _floor_check(uars, where, floor)
