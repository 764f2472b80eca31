"""Decision whether a candidate is blessed, and the checks behind it.

The functions are pure: evidence in, verdict out.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from modules.common.settings import Settings
from modules.data.splits import TEST
from modules.evaluation.acceptance.bounds import PredictionTest
from modules.reporting.acceptance import worst_of
from modules.reporting.summary import Acceptance, Baseline, Check, Evaluation, Protocol, Verdict, speaker_hash

Slice = tuple[tuple[str, str], ...]
"""Pairs of a feature and its value; empty for the whole split."""

SliceColumn = Literal["corpus", "sex", "intensity"]
IncomparableBaseline = Literal["skip_comparison", "reject"]

# Codes of checks, for programs and tests.
CLIPS, SPEAKERS = "gate.test_clips", "gate.test_speakers"
FINITE = "gate.finite_predictions"
VARIETY = "gate.different_classes"
UAR, UAR_INTERVAL, SLICE_UAR = "gate.uar", "gate.uar_interval", "gate.slice_uar"
GUESSING = "gate.guessing"
COMPARABLE = "gate.comparable_baseline"
UAR_LOSS, UAR_LOSS_INTERVAL = "gate.uar_loss", "gate.uar_loss_interval"
TFMA = "gate.tfma_thresholds"
ACCEPTANCE = "gate.acceptance"

GUESSING_LEVEL = 0.01
"""Largest share of guessing models that the permutation test lets through."""

_WHOLE: Slice = ()


class GateSettings(Settings):
    """Conditions on the test split for blessing a candidate.

    UAR is the unweighted average recall, 0 to 1. Floors are adjusted for chance, as scikit-learn's balanced accuracy
    with ``adjusted=True``: 0 is guessing among the emotions of the test split, 1 is perfect. Whatever the floors, a
    model is rejected unless the interval of its UAR lies above chance and a permutation test finds that it does not
    guess.

    ``max_uar_loss`` must leave room for chance: models that differ in the
    seed alone differed by 3.1 % UAR (standard deviation) on four speakers of RAVDESS, so that 2 % would reject 27 % of
    all ties, and 5 % rejects 5 %.
    """

    # Published models on acted speech of unseen speakers start at about 0.35.
    min_adjusted_uar: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Floor of the UAR, adjusted for chance: 0.2 is a UAR of 31 % among seven emotions, where guessing "
        "gives 14 %, and 60 % among two.",
    )
    max_uar_loss: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest loss of UAR against the blessed baseline, significant or not. A significant loss, where "
        "the whole interval of the paired difference lies below zero, is rejected however small it is.",
    )
    min_slice_adjusted_uar: float = Field(
        0.05, ge=0, le=1, description="Floor of the UAR of every slice, adjusted for chance among its emotions."
    )
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
    acceptance: tuple[PredictionTest, ...] = Field(
        (),
        description="Acceptance tests of ser-tests that must pass on the test split with their published bounds: every "
        "check of a named test. The report has all of them, named here or not.",
    )
    override: str = Field(
        "",
        description="Name of a person and a reason: blesses the candidate despite failed checks, and is recorded in "
        "the blessing, the verdict and the report. A model with non-finite predictions stays rejected.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """Measurements of a candidate on ``test``.

    Attributes:
        evaluation: Metrics with intervals.
        uars: TFMA's UAR by slice.
        tfma_passed: Whether all thresholds of TFMA hold.
        tfma_violations: The others, each with metric, value and bound.
        baseline: Comparison with the blessed model on the test speakers without ``baseline_speakers``; None without a
            blessed model, without such speakers, or if the model cannot predict the examples.
        missing: Path of the blessed model if its files are missing.
        incomparable: Reason why the blessed model cannot predict the same examples, if it cannot.
        baseline_speakers: Test speakers that only the blessed model was trained on, by :func:`baseline_only_speakers`.
            None if its training speakers are unknown.
    """

    evaluation: Evaluation
    uars: Mapping[Slice, float]
    tfma_passed: bool
    tfma_violations: tuple[str, ...] = ()
    baseline: Baseline | None = None
    missing: str | None = None
    incomparable: str | None = None
    baseline_speakers: tuple[str, ...] | None = ()


def baseline_only_speakers(candidate: Protocol, baseline: Protocol) -> tuple[str, ...]:
    """Return the candidate's test speakers that the baseline was trained on and the candidate was not.

    For them the comparison would favour the baseline. With random splits of clips, both models were trained on them.

    Args:
        candidate: Splits of the candidate's run.
        baseline: Splits of the baseline's run, with ids or hashes of its speakers.
    """
    trained = baseline.training_speakers
    unseen = sorted(set(candidate.speakers[TEST]) - candidate.training_speakers)
    return tuple(speaker for speaker in unseen if speaker in trained or speaker_hash(speaker) in trained)


def compared(evidence: Evidence, settings: GateSettings) -> Baseline | None:
    """Return the comparison with the baseline; None if too few speakers remain that the baseline was not trained on.

    Args:
        evidence: Measurements of the candidate.
        settings: Settings of the gate.
    """
    comparison = evidence.baseline
    if comparison is None or not evidence.baseline_speakers:
        return comparison
    enough = comparison.speakers >= settings.min_test_speakers and comparison.clips >= settings.min_test_clips
    return comparison if enough else None


def decide(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Bless the candidate if every check passes, or by override unless predictions are non-finite.

    Args:
        evidence: Measurements of the candidate.
        settings: Settings of the gate.
    """
    checks = tuple(_checks(evidence, settings))
    failed = [check for check in checks if not check.passed]
    if not failed:
        return Verdict(blessed=True, checks=checks, reasons=("Every check passed.",))
    # TFMA's thresholds repeat other checks, whose texts are more specific.
    reasons = tuple(check.text for check in failed if check.code != TFMA) or (failed[0].text,)
    if not settings.override or any(check.code == FINITE for check in failed):
        return Verdict(blessed=False, checks=checks, reasons=reasons)
    head = f"Blessed by override, although {len(failed)} of {len(checks)} checks failed."
    return Verdict(blessed=True, checks=checks, reasons=(head, *reasons), override=settings.override)


def _checks(evidence: Evidence, settings: GateSettings) -> Iterator[Check]:
    evaluation = evidence.evaluation
    yield _count_check(CLIPS, "Test clips", evaluation.clips, settings.min_test_clips)
    yield _count_check(SPEAKERS, "Test speakers", evaluation.speakers, settings.min_test_speakers)
    yield _finite_check(evaluation)
    yield _variety_check(evaluation)
    yield _floor_check(evidence, _WHOLE, settings.min_adjusted_uar)
    yield _interval_check(evaluation)
    yield _guessing_check(evaluation)
    yield from _baseline_checks(evidence, settings)
    for column in settings.slices:
        yield from _slice_checks(evidence, column, settings.min_slice_adjusted_uar)
    for test in settings.acceptance:
        yield _acceptance_check(evaluation.acceptance, test)
    yield _tfma_check(evidence)


def _acceptance_check(acceptance: Acceptance | None, test: str) -> Check:
    name = f"Acceptance test {test}"
    checks = acceptance.tests.get(test, ()) if acceptance else ()
    if not checks:
        skipped = acceptance.skipped if acceptance else ()
        reason = next((each.reason for each in skipped if each.test == test), "the predictions have no metrics")
        text = f"{name} cannot be made: {reason}. Take it out of gate.acceptance, or test on other recordings."
        return Check(code=ACCEPTANCE, name=name, passed=False, text=text)
    worst = worst_of(checks)
    value, interval, bound = worst.texts
    failed = sum(not check.passed for check in checks)
    text = (
        f"{name}: {failed} of {len(checks)} checks failed; {worst.name} is {value}{f' ({interval})' * bool(interval)}, "
        f"and must be {bound}."
    )
    return Check(code=ACCEPTANCE, name=name, value=worst.value, bound=worst.bound, passed=not failed, text=text)


def _tfma_check(evidence: Evidence) -> Check:
    violated = "; ".join(evidence.tfma_violations) or "a threshold is violated"
    text = "TFMA: every threshold holds." if evidence.tfma_passed else f"TFMA: {violated}."
    return Check(code=TFMA, name="TFMA's thresholds", passed=evidence.tfma_passed, text=text)


def _count_check(code: str, name: str, count: int, least: int) -> Check:
    text = f"{name}: {count}; at least {least} are needed."
    return Check(code=code, name=name, value=count, bound=least, passed=count >= least, text=text)


def _finite_check(evaluation: Evaluation) -> Check:
    bad = evaluation.non_finite_predictions
    text = f"Predictions of {bad} of {evaluation.clips} clips are non-finite." if bad else "Every prediction is finite."
    return Check(code=FINITE, name="Finite predictions", value=bad, bound=0, passed=bad == 0, text=text)


def _variety_check(evaluation: Evaluation) -> Check:
    """Check that the model does not predict the same emotion for every clip."""
    predicted = sum(any(row[column] for row in evaluation.confusion) for column in range(len(evaluation.classes)))
    if not evaluation.confusion:
        text = "The predicted emotions are unknown, since no metric could be computed."
    elif predicted < 2:
        text = "The model predicts the same emotion for every clip."
    else:
        text = f"The model predicts {predicted} different emotions."
    return Check(code=VARIETY, name="Different emotions", value=predicted, bound=2, passed=predicted >= 2, text=text)


def _floor_check(evidence: Evidence, where: Slice, adjusted_floor: float) -> Check:
    code = SLICE_UAR if where else UAR
    name = "UAR" + "".join(f" of {column} {value}" for column, value in where)
    guessing = evidence.evaluation.chance_in(where)
    if where not in evidence.uars or guessing is None:
        return Check(code=code, name=name, passed=False, text=f"{name} is missing from the evaluation.")
    floor, value = floor_above(guessing, adjusted_floor), evidence.uars[where]
    passed = value >= floor  # false for NaN
    text = (
        f"{name} is {'' if passed else 'only '}{value:.1%}; it must be at least {floor:.1%}, and guessing gives "
        f"{guessing:.1%}."
    )
    return Check(code=code, name=name, value=value, bound=floor, passed=passed, text=text)


def floor_above(guessing: float, adjusted_floor: float) -> float:
    """Return the UAR that a floor adjusted for chance stands for, 0 to 1.

    Args:
        guessing: UAR of guessing, one over the number of emotions.
        adjusted_floor: Share of the way from guessing to a UAR of 1.
    """
    return guessing + adjusted_floor * (1 - guessing)


def _interval_check(evaluation: Evaluation) -> Check:
    name = "UAR's interval"
    uar, guessing = evaluation.metric("uar"), evaluation.chance
    if uar is None or uar.low is None or uar.high is None or guessing is None:
        text = f"{name} cannot be computed from these predictions."
        return Check(code=UAR_INTERVAL, name=name, passed=False, text=text)
    passed = uar.low > guessing
    where = "lies above" if passed else "does not lie above"
    text = f"{name}, {uar.low:.1%} to {uar.high:.1%}, {where} the {guessing:.1%} of guessing."
    return Check(code=UAR_INTERVAL, name=name, value=uar.low, bound=guessing, passed=passed, text=text)


def _guessing_check(evaluation: Evaluation) -> Check:
    name, value = "Better than guessing", evaluation.guessing_p_value
    if value is None:
        text = "Each test speaker has one emotion alone, so that only the interval of the UAR shows guessing."
        return Check(code=GUESSING, name=name, passed=not evaluation.non_finite_predictions, text=text)
    passed = value <= GUESSING_LEVEL
    text = (
        f"Permuted among the clips of each speaker, the predictions are as good with a probability of {value:.3f}; it "
        f"may be at most {GUESSING_LEVEL}."
    )
    return Check(code=GUESSING, name=name, value=value, bound=GUESSING_LEVEL, passed=passed, text=text)


def _baseline_checks(evidence: Evidence, settings: GateSettings) -> Iterator[Check]:
    comparison = compared(evidence, settings)
    if evidence.missing:
        text = (
            f"The files of the blessed baseline, {evidence.missing}, are missing, and no pushed version was copied "
            "from them, so the candidate cannot be compared. Set gate.override to bless it anyway."
        )
        yield _comparable_check(text, passed=False)
    elif evidence.incomparable:
        text = f"The blessed baseline cannot predict these examples, {evidence.incomparable}"
        yield _incomparable_check(text, settings)
    elif comparison is None and evidence.evaluation.non_finite_predictions:
        yield _comparable_check("Non-finite predictions cannot be compared.", passed=False)
    elif comparison is None and evidence.baseline_speakers:
        yield _too_few_left_check(evidence, evidence.baseline_speakers, settings)
    elif comparison is None:
        yield _comparable_check("Without a blessed baseline, the other checks decide.", passed=True)
    else:
        yield _compared_check(comparison, evidence.baseline_speakers, settings)
        yield from _difference_checks(comparison, settings.max_uar_loss)


def _comparable_check(text: str, *, passed: bool, value: float | None = None, bound: float | None = None) -> Check:
    return Check(code=COMPARABLE, name="Comparable baseline", value=value, bound=bound, passed=passed, text=text)


def _incomparable_check(why: str, settings: GateSettings, value: float | None = None) -> Check:
    skipped = settings.incomparable_baseline == "skip_comparison"
    consequence = "the other checks decide" if skipped else "gate.incomparable_baseline rejects the candidate"
    bound = None if skipped or value is None else settings.min_test_speakers
    return _comparable_check(f"{why}: {consequence}.", passed=skipped, value=value, bound=bound)


def _too_few_left_check(evidence: Evidence, excluded: tuple[str, ...], settings: GateSettings) -> Check:
    speakers = evidence.evaluation.speakers
    clips = evidence.baseline.clips if evidence.baseline else 0
    why = (
        f"Not comparable: the blessed baseline was trained on {len(excluded)} of {speakers} test speakers, "
        f"and the other {speakers - len(excluded)}, with {clips} clips, are too few "
        f"(gate.min_test_speakers is {settings.min_test_speakers}, gate.min_test_clips {settings.min_test_clips})"
    )
    return _incomparable_check(why, settings, value=speakers - len(excluded))


def _compared_check(comparison: Baseline, excluded: tuple[str, ...] | None, settings: GateSettings) -> Check:
    if excluded is None:
        text = "The training speakers of the blessed baseline are not recorded and may include test speakers."
        return _comparable_check(text, passed=True)
    text = f"The blessed baseline was trained on none of the {comparison.speakers} test speakers."
    if excluded:
        text = (
            f"The blessed baseline was trained on {len(excluded)} of {comparison.speakers + len(excluded)} test "
            f"speakers: the models are compared on the other {comparison.speakers} alone, {comparison.clips} clips."
        )
    bound = settings.min_test_speakers if excluded else None
    return _comparable_check(text, passed=True, value=comparison.speakers, bound=bound)


def _difference_checks(baseline: Baseline, max_loss: float) -> Iterator[Check]:
    name = "UAR against the blessed baseline"
    uar = next((each for each in baseline.differences if each.name == "uar"), None)
    if uar is None or uar.difference is None or uar.low is None or uar.high is None:
        text = f"{name} cannot be computed from these predictions."
        yield Check(code=UAR_LOSS, name=name, bound=-max_loss, passed=False, text=text)
        return
    text = f"{name} is {uar.difference:+.1%}; it may be at most {max_loss:.1%} lower."
    passed = uar.difference >= -max_loss
    yield Check(code=UAR_LOSS, name=name, value=uar.difference, bound=-max_loss, passed=passed, text=text)
    significance = "reaches zero" if uar.high >= 0 else "lies wholly below zero: significantly worse"
    text = f"The interval of the difference in UAR, {uar.low:+.1%} to {uar.high:+.1%}, {significance}."
    name = "Interval of the difference in UAR"
    yield Check(code=UAR_LOSS_INTERVAL, name=name, value=uar.high, bound=0, passed=uar.high >= 0, text=text)


def _slice_checks(evidence: Evidence, column: str, adjusted_floor: float) -> Iterator[Check]:
    slices = [where for where in evidence.uars if [name for name, _ in where] == [column]]
    if not slices:
        text = f"TFMA's results hold no UAR by {column}."
        yield Check(code=SLICE_UAR, name=f"UAR by {column}", passed=False, text=text)
    for where in sorted(slices):
        yield _floor_check(evidence, where, adjusted_floor)
