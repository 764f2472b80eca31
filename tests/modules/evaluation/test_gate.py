"""Every outcome of the decision, from real predictions; and the property that no wording can get around."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from modules.data.labels import EMOTIONS
from modules.evaluation import evaluate, gate
from modules.evaluation.gate import Evidence, GateSettings
from modules.evaluation.intervals import Predictions
from modules.reporting.summary import Baseline, Check, Difference, Evaluation, IntervalMethod, Metric, Protocol

SPEAKERS = np.repeat([f"toy-{number:02}" for number in range(10)], 28)
CORPORA = np.where(np.arange(280) < 140, "toy", "other")
LABELS = np.tile(np.arange(len(EMOTIONS)), 40)
SETTINGS = GateSettings(min_uar=0.4, min_slice_uar=0.3, slices=("corpus",))


def answers(accuracy: float, seed: int = 0, labels: np.ndarray = LABELS) -> np.ndarray:
    """Probabilities of a model that is right about so many of the clips, by lot."""
    rng = np.random.default_rng(seed)
    named = np.where(rng.random(len(labels)) < accuracy, labels, (labels + rng.integers(1, 7, len(labels))) % 7)
    return np.full((len(labels), 7), 0.05) + 0.65 * np.eye(7)[named]


def uar(probabilities: np.ndarray, chosen: np.ndarray) -> float:
    right = (probabilities.argmax(axis=1) == LABELS)[chosen]
    return float(np.mean([right[LABELS[chosen] == label].mean() for label in np.unique(LABELS[chosen])]))


def evidence(
    probabilities: np.ndarray,
    baseline: np.ndarray | None = None,
    heard: tuple[str, ...] | None = (),
    **more: object,
) -> Evidence:
    """As the GatedEvaluator gathers it."""
    uars = {(): uar(probabilities, LABELS >= 0)}
    uars |= {(("corpus", name),): uar(probabilities, name == CORPORA) for name in ("toy", "other")}
    comparison = None
    unheard = ~np.isin(SPEAKERS, heard or ())
    if baseline is not None and unheard.any():
        both = (Predictions.of(LABELS, rows, SPEAKERS.tolist()).take(unheard) for rows in (probabilities, baseline))
        comparison = evaluate.compare(*both, name="model 1", resamples=500)
    measured = evaluate.evaluate(LABELS, probabilities, SPEAKERS.tolist(), resamples=500)
    found = {"evaluation": measured, "uars": uars, "tfma_passed": True, "baseline": comparison, "heard": heard}
    return Evidence(**found | more)


def comparable(verdict: gate.Verdict) -> Check:
    (check,) = [check for check in verdict.checks if check.name == gate.COMPARABLE]
    return check


def failed(verdict: gate.Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_without_a_baseline_a_good_model_is_judged_alone_and_blessed():
    verdict = gate.judge(evidence(answers(0.8)), SETTINGS)
    assert verdict.blessed
    assert "no blessed model" in next(check.text for check in verdict.checks if check.name == "Comparable baseline")
    assert {"Test clips", "Test speakers", "UAR", "UAR's interval", "UAR of corpus toy"} <= {
        check.name for check in verdict.checks
    }


@pytest.mark.parametrize("accuracy", [0.9, 0.7])
def test_a_better_model_and_a_tie_are_blessed(accuracy):
    assert gate.judge(evidence(answers(accuracy, seed=1), answers(0.7, seed=1)), SETTINGS).blessed


def test_chance_between_equals_on_four_speakers_seldom_rejects():
    """Equals that share half of their answers differ about as much as models that differ in the seed alone."""
    few = SPEAKERS < "toy-04"
    labels, speakers = LABELS[few], SPEAKERS[few].tolist()
    found, verdicts = evidence(answers(0.8)), []
    for seed in range(40):
        ours, theirs = answers(0.5, 2 * seed, labels), answers(0.5, 2 * seed + 1, labels)
        shared = np.random.default_rng(seed).random(len(labels)) < 0.5
        theirs[shared] = answers(0.5, 1000 + seed, labels)[shared]
        ours[shared] = theirs[shared]
        pair = (Predictions.of(labels, rows, speakers) for rows in (ours, theirs))
        comparison = evaluate.compare(*pair, name="equal", resamples=200)
        verdicts.append(gate.judge(dataclasses.replace(found, baseline=comparison), SETTINGS).blessed)
    assert np.mean(verdicts) >= 0.8


def test_a_worse_model_is_rejected_with_both_reasons():
    verdict = gate.judge(evidence(answers(0.6), answers(0.9, seed=1)), SETTINGS)
    assert not verdict.blessed
    assert failed(verdict) == {"UAR against the blessed baseline", "Interval of the difference in UAR"}
    assert "significantly worse" in " ".join(verdict.reasons)


def test_a_loss_that_may_be_is_still_refused_when_it_is_significant():
    baseline = answers(0.9)
    ours = baseline.copy()
    for speaker in np.unique(SPEAKERS):  # one clip of every speaker, that the baseline had right
        right = np.flatnonzero((speaker == SPEAKERS) & (baseline.argmax(axis=1) == LABELS))[0]
        ours[right] = np.roll(ours[right], 1)
    verdict = gate.judge(evidence(ours, baseline), SETTINGS.replace(max_uar_loss=0.5))
    assert failed(verdict) == {"Interval of the difference in UAR"}


def test_a_slice_below_its_floor_rejects_a_model_that_is_good_on_the_whole():
    ours = answers(0.95)
    ours[CORPORA == "other"] = answers(0.2)[CORPORA == "other"]
    verdict = gate.judge(evidence(ours), SETTINGS)
    assert failed(verdict) == {"UAR of corpus other"}
    assert "UAR of corpus other is only" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("uars", "missing"),
    [({}, {"UAR", "UAR by corpus"}), ({(): math.nan, (("corpus", "toy"),): 0.9}, {"UAR"})],
)
def test_a_missing_metric_rejects(uars, missing):
    verdict = gate.judge(evidence(answers(0.9), uars=uars), SETTINGS)
    assert not verdict.blessed
    assert failed(verdict) == missing


def test_predictions_that_are_no_numbers_reject_and_no_override_helps():
    ours = answers(0.9)
    ours[3, 2] = np.nan
    found = dataclasses.replace(evidence(answers(0.9)), evaluation=evaluate.evaluate(LABELS, ours, SPEAKERS.tolist()))
    for settings in (SETTINGS, SETTINGS.replace(override="me: try it")):
        verdict = gate.judge(found, settings)
        assert not verdict.blessed
        assert verdict.override is None
        assert "The answer to 1 of 280 clips is not a number." in verdict.reasons


def test_one_emotion_for_every_clip_rejects():
    constant = np.tile([0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.88], (len(LABELS), 1))
    verdict = gate.judge(evidence(constant), SETTINGS.replace(min_uar=0.1, min_slice_uar=0.1))
    assert failed(verdict) == {"Different answers"}


@pytest.mark.parametrize(("shuffled", "blessed"), [(False, True), (True, False)])
def test_a_model_trained_on_shuffled_labels_is_rejected(shuffled, blessed):
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(len(EMOTIONS), 12))
    heard = LABELS[rng.permutation(len(LABELS))]
    train = centres[heard] + 0.8 * rng.normal(size=(len(heard), 12))
    model = LogisticRegression().fit(train, rng.permutation(heard) if shuffled else heard)
    test = centres[LABELS] + 0.8 * rng.normal(size=(len(LABELS), 12))
    verdict = gate.judge(evidence(model.predict_proba(test)), SETTINGS)
    assert verdict.blessed == blessed
    assert blessed or {"UAR", "UAR's interval"} <= failed(verdict)


REMEMBERED = tuple(f"toy-{number:02}" for number in range(7))


def with_memory(fair: float) -> np.ndarray:
    """A baseline that is nearly always right about whom it heard in training."""
    rows = answers(fair, seed=1)
    known = np.isin(SPEAKERS, REMEMBERED)
    rows[known] = answers(0.99, seed=2)[known]
    return rows


def test_a_baseline_that_heard_test_speakers_is_compared_on_the_others_alone():
    ours, theirs = answers(0.75), with_memory(0.6)
    unfair = gate.judge(evidence(ours, theirs), SETTINGS)
    assert failed(unfair) == {"UAR against the blessed baseline", "Interval of the difference in UAR"}
    verdict = gate.judge(evidence(ours, theirs, heard=REMEMBERED), SETTINGS)
    assert verdict.blessed
    check = comparable(verdict)
    assert (check.value, check.bound, check.passed) == (3, 2, True)
    assert "7 of 10 test speakers were heard by the blessed baseline in training" in check.text
    assert "compared on the other 3 alone, 84 clips" in check.text
    assert "toy" not in check.text, "the verdict is in the model card, which names nobody"


def test_a_candidate_that_is_worse_on_the_others_is_rejected_all_the_same():
    ours, theirs = answers(0.5), with_memory(0.95)
    verdict = gate.judge(evidence(ours, theirs, heard=REMEMBERED), SETTINGS)
    assert failed(verdict) >= {"UAR against the blessed baseline", "Interval of the difference in UAR"}


@pytest.mark.parametrize(("choice", "blessed"), [("skip_comparison", True), ("reject", False)])
@pytest.mark.parametrize("left", [0, 1])
def test_where_too_few_are_left_the_floors_decide_or_the_configuration_rejects(choice, blessed, left):
    heard = tuple(np.unique(SPEAKERS)[left:].tolist())
    settings = SETTINGS.replace(incomparable_baseline=choice)
    verdict = gate.judge(evidence(answers(0.6), with_memory(0.99), heard=heard), settings)
    assert verdict.blessed == blessed
    assert failed(verdict) == (set() if blessed else {gate.COMPARABLE})
    check = comparable(verdict)
    assert f"{10 - left} of 10 test speakers were heard" in check.text
    assert f"the other {left}, with {28 * left} clips, are too few" in check.text
    assert (check.value, check.bound) == (left, None if blessed else 2)
    below = gate.judge(evidence(answers(0.2), with_memory(0.99), heard=heard), settings)
    assert "UAR" in failed(below), "the absolute floors still decide"


def test_too_few_clips_of_the_others_are_too_few():
    found = evidence(answers(0.6), with_memory(0.99), heard=REMEMBERED)
    verdict = gate.judge(found, SETTINGS.replace(min_test_clips=85))
    assert "the other 3, with 84 clips, are too few" in comparable(verdict).text


def test_where_the_baseline_does_not_say_whom_it_heard_it_is_compared_and_that_is_said():
    verdict = gate.judge(evidence(answers(0.6), answers(0.9, seed=1), heard=None), SETTINGS)
    assert "is not recorded" in comparable(verdict).text
    assert "UAR against the blessed baseline" in failed(verdict)


names = st.frozensets(st.sampled_from([f"toy-{number:02}" for number in range(8)]))


@given(train=names, tuned_on=names, tested=names, theirs_train=names, theirs_eval=names, theirs_test=names)
def test_heard_is_who_tests_now_and_trained_the_baseline_and_not_the_candidate(
    train, tuned_on, tested, theirs_train, theirs_eval, theirs_test
):
    ours = {"train": tuple(train), "eval": tuple(tuned_on), "test": tuple(tested)}
    theirs = {"train": tuple(theirs_train), "eval": tuple(theirs_eval), "test": tuple(theirs_test)}
    protocols = (Protocol(kind="speaker", speakers=speakers) for speakers in (ours, theirs))
    found = gate.heard_by_baseline_alone(*protocols)
    assert list(found) == sorted(found)
    for speaker in train | tuned_on | tested | theirs_train | theirs_eval | theirs_test:
        remembers = speaker in theirs_train or speaker in theirs_eval
        generalises = speaker not in train and speaker not in tuned_on
        assert (speaker in found) == (speaker in tested and remembers and generalises)


@pytest.mark.parametrize(("choice", "blessed"), [("skip_comparison", True), ("reject", False)])
def test_a_baseline_on_another_audio_spec_is_named_and_the_configuration_decides(choice, blessed):
    found = evidence(answers(0.8), incomparable="since it was trained on audio spec 12 and they have 34")
    verdict = gate.judge(found, SETTINGS.replace(incomparable_baseline=choice))
    assert verdict.blessed == blessed
    assert "audio spec 12" in next(check.text for check in verdict.checks if check.name == "Comparable baseline")


@pytest.mark.parametrize("choice", ["skip_comparison", "reject"])
def test_a_baseline_whose_files_are_gone_rejects_whatever_the_configuration_says_of_incomparable_ones(choice):
    settings = SETTINGS.replace(incomparable_baseline=choice)
    verdict = gate.judge(evidence(answers(0.8), missing="gs://runs/model"), settings)
    assert failed(verdict) == {gate.COMPARABLE}
    assert "gs://runs/model, are gone" in verdict.reasons[0]
    assert gate.judge(evidence(answers(0.8), missing="x"), settings.replace(override="Ada: first")).blessed


def test_an_override_blesses_and_says_so_beside_what_failed():
    settings = SETTINGS.replace(override="Ada: the microphone changed, see ticket 12")
    verdict = gate.judge(evidence(answers(0.2)), settings)
    assert verdict.blessed
    assert verdict.override == "Ada: the microphone changed, see ticket 12"
    assert verdict.reasons[0].startswith("Blessed by override")
    assert len(verdict.reasons) == 1 + len(failed(verdict))


def test_an_override_of_nothing_is_not_recorded():
    verdict = gate.judge(evidence(answers(0.8)), SETTINGS.replace(override="Ada: in case"))
    assert verdict.blessed
    assert verdict.override is None


@pytest.mark.parametrize(("name", "least"), [("min_test_clips", 281), ("min_test_speakers", 11)])
def test_too_little_to_judge_by_rejects(name, least):
    verdict = gate.judge(evidence(answers(0.9)), SETTINGS.replace(**{name: least}))
    assert not verdict.blessed
    assert f"at least {least}" in verdict.reasons[0]


def test_a_threshold_that_tfma_found_violated_rejects():
    verdict = gate.judge(evidence(answers(0.9), tfma_passed=False), SETTINGS)
    assert not verdict.blessed
    assert failed(verdict) == {gate.TFMA}
    assert verdict.reasons == ("TFMA found a threshold violated.",)
    explained = gate.judge(evidence(answers(0.2), tfma_passed=False), SETTINGS)
    assert gate.TFMA in failed(explained)
    assert "UAR is only" in explained.reasons[0]
    assert not [reason for reason in explained.reasons if "TFMA" in reason]


shares = st.floats(0, 1)
differences = st.floats(-1, 1)
optional = st.none()


@given(
    uar_low=optional | shares, uar_high=optional | shares, uar=shares, slice_uar=shares,
    difference=differences, low=optional | differences, high=optional | differences,
    heard=st.none() | st.integers(0, 50).map(lambda count: tuple(map(str, range(count)))),
    settings=st.builds(
        GateSettings, min_uar=shares, max_uar_loss=shares, min_slice_uar=shares, slices=st.just(("sex",)),
        min_test_speakers=st.integers(1, 50), incomparable_baseline=st.sampled_from(["skip_comparison", "reject"]),
    ),
)  # fmt: skip
def test_never_blesses_what_lies_below_a_bound(
    uar_low, uar_high, uar, slice_uar, difference, low, high, heard, settings
):
    """Whatever point and interval say of each other, no matter how they contradict."""
    measured = Evaluation(
        split="test",
        clips=1000,
        speakers=50,
        classes=EMOTIONS,
        interval=IntervalMethod(level=0.95, resamples=1, seed=0, text=""),
        metrics=(Metric(name="uar", value=uar, low=uar_low, high=uar_high),),
        confusion=tuple(tuple(row) for row in np.eye(7, dtype=int).tolist()),
    )
    paired = Difference(name="uar", candidate=uar, baseline=uar, difference=difference, low=low, high=high)
    unheard = 50 - len(heard or ())
    compared = Baseline(name="b", split="test", clips=20 * unheard, speakers=unheard, differences=(paired,))
    comparable = not heard or (unheard >= settings.min_test_speakers and unheard >= 1)
    verdict = gate.judge(
        Evidence(
            evaluation=measured,
            uars={(): uar, (("sex", "female"),): slice_uar},
            tfma_passed=True,
            baseline=compared if unheard else None,
            heard=heard,
        ),
        settings,
    )
    if verdict.blessed:
        assert uar_high is not None
        assert uar_high >= settings.min_uar
        assert uar >= settings.min_uar
        assert slice_uar >= settings.min_slice_uar
        assert comparable or settings.incomparable_baseline == "skip_comparison"
    if verdict.blessed and comparable:
        assert high is not None
        assert high >= 0
        assert difference >= -settings.max_uar_loss
    assert verdict.blessed == all(check.passed for check in verdict.checks)


def test_settings_survive_the_way_through_json():
    settings = GateSettings(slices=("sex", "intensity"), override='Ada: "why"')
    assert GateSettings.from_json(settings.to_json()) == settings
