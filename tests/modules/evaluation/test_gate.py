"""Every outcome of the decision from predictions, and the property that bounds are never violated."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from modules.data.labels import EMOTIONS
from modules.evaluation import evaluate, gate
from modules.evaluation.acceptance.measure import of_predictions
from modules.evaluation.gate import Evidence, GateSettings
from modules.evaluation.intervals import Predictions
from modules.reporting.summary import Baseline, Check, Difference, Evaluation, IntervalMethod, Metric, Protocol

SPEAKERS = np.repeat([f"toy-{number:02}" for number in range(10)], 28)
CORPORA = np.where(np.arange(280) < 140, "toy", "other")
GUESSING_MODELS = 100
LABELS = np.tile(np.arange(len(EMOTIONS)), 40)
SETTINGS = GateSettings(min_adjusted_uar=0.3, min_slice_adjusted_uar=0.2, slices=("corpus",))


def answers(accuracy: float, seed: int = 0, labels: np.ndarray = LABELS) -> np.ndarray:
    """Return probabilities of a model with this accuracy, at random, float ``[clips, 7]``."""
    rng = np.random.default_rng(seed)
    named = np.where(rng.random(len(labels)) < accuracy, labels, (labels + rng.integers(1, 7, len(labels))) % 7)
    return np.full((len(labels), 7), 0.05) + 0.65 * np.eye(7)[named]


def uar(probabilities: np.ndarray, chosen: np.ndarray) -> float:
    right = (probabilities.argmax(axis=1) == LABELS)[chosen]
    return float(np.mean([right[LABELS[chosen] == label].mean() for label in np.unique(LABELS[chosen])]))


def evidence(
    probabilities: np.ndarray,
    baseline: np.ndarray | None = None,
    known: tuple[str, ...] | None = (),
    **more: object,
) -> Evidence:
    """Return evidence as the GatedEvaluator does."""
    uars = {(): uar(probabilities, LABELS >= 0)}
    uars |= {(("corpus", name),): uar(probabilities, name == CORPORA) for name in ("toy", "other")}
    comparison = None
    unseen = ~np.isin(SPEAKERS, known or ())
    if baseline is not None and unseen.any():
        both = (Predictions.of(LABELS, rows, SPEAKERS.tolist()).take(unseen) for rows in (probabilities, baseline))
        comparison = evaluate.compare(*both, name="model 1", resamples=500)
    measured = evaluate.evaluate(LABELS, probabilities, SPEAKERS.tolist(), classes=EMOTIONS, resamples=500)
    fields = {
        "evaluation": measured,
        "uars": uars,
        "tfma_passed": True,
        "baseline": comparison,
        "baseline_speakers": known,
    }
    return Evidence(**fields | more)


def comparable(verdict: gate.Verdict) -> Check:
    (check,) = [check for check in verdict.checks if check.code == gate.COMPARABLE]
    return check


def failed(verdict: gate.Verdict) -> set[str]:
    return {check.code for check in verdict.checks if not check.passed}


def test_a_good_model_without_a_baseline_is_blessed():
    verdict = gate.decide(evidence(answers(0.8)), SETTINGS)
    assert verdict.blessed
    assert comparable(verdict).passed
    assert {"Test clips", "Test speakers", "UAR", "UAR's interval", "UAR of corpus toy"} <= {
        check.name for check in verdict.checks
    }


@pytest.mark.parametrize("accuracy", [0.9, 0.7])
def test_a_better_model_and_a_tie_are_blessed(accuracy):
    assert gate.decide(evidence(answers(accuracy, seed=1), answers(0.7, seed=1)), SETTINGS).blessed


def test_equals_on_four_speakers_are_seldom_rejected():
    """Equals that share half of their predictions differ about as much as models of two seeds."""
    few = SPEAKERS < "toy-04"
    labels, speakers = LABELS[few], SPEAKERS[few].tolist()
    measured, verdicts = evidence(answers(0.8)), []
    for seed in range(40):
        ours, theirs = answers(0.5, 2 * seed, labels), answers(0.5, 2 * seed + 1, labels)
        shared = np.random.default_rng(seed).random(len(labels)) < 0.5
        theirs[shared] = answers(0.5, 1000 + seed, labels)[shared]
        ours[shared] = theirs[shared]
        pair = (Predictions.of(labels, rows, speakers) for rows in (ours, theirs))
        comparison = evaluate.compare(*pair, name="equal", resamples=200)
        verdicts.append(gate.decide(dataclasses.replace(measured, baseline=comparison), SETTINGS).blessed)
    assert np.mean(verdicts) >= 0.8


def test_a_worse_model_is_rejected_with_both_reasons():
    verdict = gate.decide(evidence(answers(0.6), answers(0.9, seed=1)), SETTINGS)
    assert not verdict.blessed
    assert failed(verdict) == {gate.UAR_LOSS, gate.UAR_LOSS_INTERVAL}


def test_a_significant_loss_below_the_bound_is_rejected():
    baseline = answers(0.9)
    ours = baseline.copy()
    for speaker in np.unique(SPEAKERS):  # one clip of every speaker, that the baseline had right
        right = np.flatnonzero((speaker == SPEAKERS) & (baseline.argmax(axis=1) == LABELS))[0]
        ours[right] = np.roll(ours[right], 1)
    verdict = gate.decide(evidence(ours, baseline), SETTINGS.replace(max_uar_loss=0.5))
    assert failed(verdict) == {gate.UAR_LOSS_INTERVAL}


def test_a_slice_below_its_floor_rejects():
    ours = answers(0.95)
    ours[CORPORA == "other"] = answers(0.2)[CORPORA == "other"]
    verdict = gate.decide(evidence(ours), SETTINGS)
    assert failed(verdict) == {gate.SLICE_UAR}
    assert "other" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("uars", "missing"),
    [({}, {gate.UAR, gate.SLICE_UAR}), ({(): math.nan, (("corpus", "toy"),): 0.9}, {gate.UAR})],
)
def test_a_missing_metric_rejects(uars, missing):
    verdict = gate.decide(evidence(answers(0.9), uars=uars), SETTINGS)
    assert not verdict.blessed
    assert failed(verdict) == missing


def test_non_finite_predictions_reject_despite_an_override():
    ours = answers(0.9)
    ours[3, 2] = np.nan
    measured = dataclasses.replace(
        evidence(answers(0.9)), evaluation=evaluate.evaluate(LABELS, ours, SPEAKERS.tolist(), classes=EMOTIONS)
    )
    for settings in (SETTINGS, SETTINGS.replace(override="me: try it")):
        verdict = gate.decide(measured, settings)
        assert not verdict.blessed
        assert verdict.override is None
        assert gate.FINITE in failed(verdict)
        assert "1 of 280 clips" in " ".join(verdict.reasons)


def test_one_emotion_for_every_clip_rejects():
    constant = np.tile([0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.88], (len(LABELS), 1))
    verdict = gate.decide(evidence(constant), SETTINGS.replace(min_adjusted_uar=0, min_slice_adjusted_uar=0))
    assert failed(verdict) == {gate.VARIETY, gate.UAR_INTERVAL, gate.GUESSING}


@pytest.mark.parametrize(("shuffled", "blessed"), [(False, True), (True, False)])
def test_a_model_trained_on_shuffled_labels_is_rejected(shuffled, blessed):
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(len(EMOTIONS), 12))
    labels = LABELS[rng.permutation(len(LABELS))]
    train = centres[labels] + 0.8 * rng.normal(size=(len(labels), 12))
    model = LogisticRegression().fit(train, rng.permutation(labels) if shuffled else labels)
    test = centres[LABELS] + 0.8 * rng.normal(size=(len(LABELS), 12))
    verdict = gate.decide(evidence(model.predict_proba(test)), SETTINGS)
    assert verdict.blessed == blessed
    assert blessed or {gate.UAR, gate.UAR_INTERVAL} <= failed(verdict)


REMEMBERED = tuple(f"toy-{number:02}" for number in range(7))


def with_memory(fair: float) -> np.ndarray:
    """Return predictions of a baseline that is nearly always right for its training speakers."""
    rows = answers(fair, seed=1)
    known = np.isin(SPEAKERS, REMEMBERED)
    rows[known] = answers(0.99, seed=2)[known]
    return rows


def test_training_speakers_of_the_baseline_are_left_out():
    ours, theirs = answers(0.75), with_memory(0.6)
    unfair = gate.decide(evidence(ours, theirs), SETTINGS)
    assert failed(unfair) == {gate.UAR_LOSS, gate.UAR_LOSS_INTERVAL}
    verdict = gate.decide(evidence(ours, theirs, known=REMEMBERED), SETTINGS)
    assert verdict.blessed
    check = comparable(verdict)
    assert (check.value, check.bound, check.passed) == (3, 2, True)
    assert "7 of 10 test speakers" in check.text
    assert "84 clips" in check.text
    assert "toy" not in check.text, "the verdict is in the model card, which names nobody"


def test_a_candidate_worse_on_the_others_is_rejected():
    ours, theirs = answers(0.5), with_memory(0.95)
    verdict = gate.decide(evidence(ours, theirs, known=REMEMBERED), SETTINGS)
    assert failed(verdict) >= {gate.UAR_LOSS, gate.UAR_LOSS_INTERVAL}


@pytest.mark.parametrize(("choice", "blessed"), [("skip_comparison", True), ("reject", False)])
@pytest.mark.parametrize("left", [0, 1])
def test_too_few_remaining_speakers_follow_the_settings(choice, blessed, left):
    known = tuple(np.unique(SPEAKERS)[left:].tolist())
    settings = SETTINGS.replace(incomparable_baseline=choice)
    verdict = gate.decide(evidence(answers(0.6), with_memory(0.99), known=known), settings)
    assert verdict.blessed == blessed
    assert failed(verdict) == (set() if blessed else {gate.COMPARABLE})
    check = comparable(verdict)
    assert f"{10 - left} of 10 test speakers" in check.text
    assert f"{28 * left} clips" in check.text
    assert (check.value, check.bound) == (left, None if blessed else 2)
    below = gate.decide(evidence(answers(0.2), with_memory(0.99), known=known), settings)
    assert gate.UAR in failed(below), "the absolute floors still decide"


def test_too_few_remaining_clips_are_not_compared():
    measured = evidence(answers(0.6), with_memory(0.99), known=REMEMBERED)
    verdict = gate.decide(measured, SETTINGS.replace(min_test_clips=85))
    assert "84 clips" in comparable(verdict).text
    assert comparable(verdict).value == 3


def test_unknown_training_speakers_are_compared():
    verdict = gate.decide(evidence(answers(0.6), answers(0.9, seed=1), known=None), SETTINGS)
    assert comparable(verdict).value is None
    assert gate.UAR_LOSS in failed(verdict)


names = st.frozensets(st.sampled_from([f"toy-{number:02}" for number in range(8)]))


@given(train=names, tuned_on=names, tested=names, theirs_train=names, theirs_eval=names, theirs_test=names)
def test_baseline_only_speakers(train, tuned_on, tested, theirs_train, theirs_eval, theirs_test):
    ours = {"train": tuple(train), "eval": tuple(tuned_on), "test": tuple(tested)}
    theirs = {"train": tuple(theirs_train), "eval": tuple(theirs_eval), "test": tuple(theirs_test)}
    candidate, baseline = (Protocol(kind="speaker", speakers=speakers) for speakers in (ours, theirs))
    baseline_only = gate.baseline_only_speakers(candidate, baseline)
    assert list(baseline_only) == sorted(baseline_only)
    assert gate.baseline_only_speakers(candidate, baseline.hashed()) == baseline_only
    for speaker in train | tuned_on | tested | theirs_train | theirs_eval | theirs_test:
        in_baseline = speaker in theirs_train or speaker in theirs_eval
        unseen = speaker not in train and speaker not in tuned_on
        assert (speaker in baseline_only) == (speaker in tested and in_baseline and unseen)


@pytest.mark.parametrize(("choice", "blessed"), [("skip_comparison", True), ("reject", False)])
def test_an_incomparable_baseline_follows_the_settings(choice, blessed):
    measured = evidence(answers(0.8), incomparable="since it was trained on audio spec 12 and they have 34")
    verdict = gate.decide(measured, SETTINGS.replace(incomparable_baseline=choice))
    assert verdict.blessed == blessed
    assert "12" in comparable(verdict).text


@pytest.mark.parametrize("choice", ["skip_comparison", "reject"])
def test_a_missing_baseline_rejects(choice):
    settings = SETTINGS.replace(incomparable_baseline=choice)
    verdict = gate.decide(evidence(answers(0.8), missing="gs://runs/model"), settings)
    assert failed(verdict) == {gate.COMPARABLE}
    assert "gs://runs/model" in verdict.reasons[0]
    assert gate.decide(evidence(answers(0.8), missing="x"), settings.replace(override="Ada: first")).blessed


def test_an_override_blesses_and_lists_the_failed_checks():
    settings = SETTINGS.replace(override="Ada: the microphone changed, see ticket 12")
    verdict = gate.decide(evidence(answers(0.2)), settings)
    assert verdict.blessed
    assert verdict.override == "Ada: the microphone changed, see ticket 12"
    assert verdict.reasons[0].startswith("Blessed by override")
    assert len(verdict.reasons) == 1 + sum(not check.passed for check in verdict.checks)


def test_an_unneeded_override_is_not_recorded():
    verdict = gate.decide(evidence(answers(0.8)), SETTINGS.replace(override="Ada: in case"))
    assert verdict.blessed
    assert verdict.override is None


@pytest.mark.parametrize(("name", "least"), [("min_test_clips", 281), ("min_test_speakers", 11)])
def test_too_few_clips_or_speakers_reject(name, least):
    verdict = gate.decide(evidence(answers(0.9)), SETTINGS.replace(**{name: least}))
    assert not verdict.blessed
    assert f"at least {least}" in verdict.reasons[0]


def test_a_violated_tfma_threshold_rejects():
    verdict = gate.decide(evidence(answers(0.9), tfma_passed=False), SETTINGS)
    assert not verdict.blessed
    assert failed(verdict) == {gate.TFMA}
    assert len(verdict.reasons) == 1
    explained = gate.decide(evidence(answers(0.2), tfma_passed=False), SETTINGS)
    assert gate.TFMA in failed(explained)
    assert gate.UAR in failed(explained)
    assert not [reason for reason in explained.reasons if "TFMA" in reason]


shares = st.floats(0, 1)
differences = st.floats(-1, 1)
optional = st.none()


@given(
    uar_low=optional | shares, uar_high=optional | shares, uar=shares, slice_uar=shares, p_value=optional | shares,
    difference=differences, low=optional | differences, high=optional | differences,
    known=st.none() | st.integers(0, 50).map(lambda count: tuple(map(str, range(count)))),
    settings=st.builds(
        GateSettings, min_adjusted_uar=shares, min_slice_adjusted_uar=shares, max_uar_loss=shares,
        slices=st.just(("sex",)), min_test_speakers=st.integers(1, 50),
        incomparable_baseline=st.sampled_from(["skip_comparison", "reject"]),
    ),
)  # fmt: skip
def test_never_blesses_below_a_bound(
    uar_low, uar_high, uar, slice_uar, p_value, difference, low, high, known, settings
):
    """The property holds even where value and interval contradict each other."""
    measured = Evaluation(
        split="test",
        clips=1000,
        speakers=50,
        classes=EMOTIONS,
        interval=IntervalMethod(level=0.95, resamples=1, seed=0, text=""),
        metrics=(Metric(name="uar", value=uar, low=uar_low, high=uar_high),),
        confusion=tuple(tuple(row) for row in np.eye(7, dtype=int).tolist()),
        guessing_p_value=p_value,
    )
    paired = Difference(name="uar", candidate=uar, baseline=uar, difference=difference, low=low, high=high)
    unseen = 50 - len(known or ())
    compared = Baseline(name="b", split="test", clips=20 * unseen, speakers=unseen, differences=(paired,))
    comparable = not known or (unseen >= settings.min_test_speakers and unseen >= 1)
    verdict = gate.decide(
        Evidence(
            evaluation=measured,
            uars={(): uar, (("sex", "female"),): slice_uar},
            tfma_passed=True,
            baseline=compared if unseen else None,
            baseline_speakers=known,
        ),
        settings,
    )
    if verdict.blessed:
        assert uar_low is not None
        assert uar_low > 1 / 7
        assert uar >= gate.floor_above(1 / 7, settings.min_adjusted_uar)
        assert slice_uar >= gate.floor_above(1 / 7, settings.min_slice_adjusted_uar)
        assert p_value is None or p_value <= gate.GUESSING_LEVEL
        assert comparable or settings.incomparable_baseline == "skip_comparison"
    if verdict.blessed and comparable:
        assert high is not None
        assert high >= 0
        assert difference >= -settings.max_uar_loss
    assert verdict.blessed == all(check.passed for check in verdict.checks)


@pytest.mark.parametrize("emotions", range(2, 9))
def test_guessing_models_are_hardly_ever_blessed(emotions):
    """Two speakers, the fewest that the gate accepts, and guesses that favour emotions as a bad model's do."""
    rng, names = np.random.default_rng(emotions), [str(number) for number in range(emotions)]
    speakers = np.repeat(["one", "two"], 12 * emotions)
    labels = np.tile(np.arange(emotions), 24)
    settings = GateSettings(min_adjusted_uar=0, min_slice_adjusted_uar=0, slices=())
    blessed = 0
    for _ in range(GUESSING_MODELS):
        favourites = rng.dirichlet(np.ones(emotions))
        rows = np.eye(emotions)[rng.choice(emotions, len(labels), p=favourites)]
        measured = evaluate.evaluate(labels, rows, speakers.tolist(), classes=names, resamples=100)
        uars = {(): measured.metric("uar").value}
        blessed += gate.decide(Evidence(evaluation=measured, uars=uars, tfma_passed=True), settings).blessed
    assert blessed / GUESSING_MODELS < 0.01 + 3 * math.sqrt(0.01 / GUESSING_MODELS)


def test_floors_are_adjusted_for_the_emotions_of_the_split():
    labels = np.tile([0, 1], 140)
    half_right = np.where(np.random.default_rng(0).random(280) < 0.58, labels, 1 - labels)
    measured = evaluate.evaluate(labels, np.eye(7)[half_right], SPEAKERS.tolist(), classes=EMOTIONS, resamples=200)
    uars = {(): measured.metric("uar").value}
    settings = GateSettings(slices=())
    verdict = gate.decide(Evidence(evaluation=measured, uars=uars, tfma_passed=True), settings)
    (floor,) = [check for check in verdict.checks if check.code == gate.UAR]
    assert floor.bound == pytest.approx(0.5 + settings.min_adjusted_uar / 2)
    assert not floor.passed
    assert floor.value > 0.25, "the floor for seven emotions would have let it through"


def test_settings_survive_the_way_through_json():
    settings = GateSettings(slices=("sex", "intensity"), override='Ada: "why"')
    assert GateSettings.from_json(settings.to_json()) == settings


def accepted(probabilities: np.ndarray, sex: list[str]) -> Evidence:
    """Return evidence with the acceptance tests, as the GatedEvaluator computes them."""
    made = evidence(probabilities)
    predictions = Predictions.of(LABELS, probabilities, SPEAKERS.tolist())
    tests = of_predictions(predictions, EMOTIONS, {"sex": sex})
    return dataclasses.replace(made, evaluation=made.evaluation.model_copy(update={"acceptance": tests}))


def test_named_acceptance_test_must_pass():
    settings = SETTINGS.replace(acceptance=("correctness_classification",))
    good, weak = (accepted(answers(share), ["unknown"] * len(LABELS)) for share in (0.95, 0.47))
    verdict = gate.decide(good, settings)
    assert verdict.blessed
    assert gate.ACCEPTANCE in {check.code for check in verdict.checks}
    assert failed(gate.decide(weak, SETTINGS)) == set()
    rejected = gate.decide(weak, settings)
    assert failed(rejected) == {gate.ACCEPTANCE}
    (reason,) = rejected.reasons
    assert "correctness_classification" in reason
    assert "above 50.0%" in reason


def test_acceptance_test_that_the_data_do_not_allow_rejects_with_its_reason():
    settings = SETTINGS.replace(acceptance=("fairness_sex",))
    (reason,) = gate.decide(accepted(answers(0.95), ["unknown"] * len(LABELS)), settings).reasons
    assert "two groups" in reason
    assert "gate.acceptance" in reason
    (reason,) = gate.decide(evidence(answers(0.95)), settings).reasons
    assert "no metrics" in reason


def test_unknown_acceptance_test_is_refused():
    with pytest.raises(ValidationError, match="fairness_sex"):
        SETTINGS.replace(acceptance=("fairness_accent",))
