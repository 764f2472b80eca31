"""Acceptance tests on predictions whose right values are known."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from modules.audio.changes import unchanged
from modules.evaluation.acceptance import bounds, conditions, correctness, measure
from modules.evaluation.acceptance.checks import among
from modules.evaluation.acceptance.conditions import Condition
from modules.evaluation.acceptance.fairness import fairness
from modules.evaluation.acceptance.measure import groups_of, of_predictions
from modules.evaluation.acceptance.robustness import robustness
from modules.evaluation.intervals import Predictions, estimate_of, estimates
from modules.reporting.acceptance import test_rows as rows_of_tests
from modules.reporting.summary import Acceptance, AcceptanceCheck, SkippedTest

CLASSES = ("angry", "happy", "sad")


def predictions(labels, predicted, speakers, classes: int = 3) -> Predictions:
    """Return certain predictions of classes."""
    return Predictions.of(np.asarray(labels), np.eye(classes)[np.asarray(predicted)], [str(name) for name in speakers])


def by_name(results) -> dict[str, AcceptanceCheck]:
    return {each.name: each for each in results if isinstance(each, AcceptanceCheck)}


def skipped(results) -> list[SkippedTest]:
    return [each for each in results if isinstance(each, SkippedTest)]


@pytest.fixture
def six_speakers() -> Predictions:
    """Four clips of each class of six speakers: all angry ones right, half of the happy ones angry, sad ones happy."""
    labels = np.tile(np.repeat([0, 1, 2], 4), 6)
    predicted = np.tile([0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1], 6)
    return predictions(labels, predicted, np.repeat(range(6), 12))


def test_recall_and_precision_have_the_published_floor(six_speakers):
    checks = by_name(correctness.classification(six_speakers, CLASSES))
    values = {name: check.value for name, check in checks.items()}
    assert values == {
        "UAR": pytest.approx(0.5),
        "macro precision": pytest.approx((4 / 6 + 2 / 6) / 3),
        "recall of angry": 1,
        "recall of happy": 0.5,
        "recall of sad": 0,
        "precision of angry": pytest.approx(4 / 6),
        "precision of happy": pytest.approx(2 / 6),
        "precision of sad": 0,
    }
    assert {name for name, check in checks.items() if check.passed} == {"recall of angry", "precision of angry"}
    assert {check.bound for check in checks.values()} == {0.5}
    assert checks["recall of happy"].low == checks["recall of happy"].high == 0.5  # all speakers are alike


def test_shares_of_classes_are_those_of_all_clips(six_speakers):
    checks = by_name(correctness.distribution(six_speakers, CLASSES))
    values = {name: check.value for name, check in checks.items()}
    assert values == pytest.approx({"share of angry": 2 / 12, "share of happy": 2 / 12, "share of sad": -4 / 12})
    assert not any(check.passed for check in checks.values())


def test_errors_of_shares_are_averaged_over_speakers():
    labels = np.tile(np.repeat([0, 1], 10), 2)
    predicted = labels.copy()
    predicted[:4] = 1  # of the first speaker, whose share of class 0 is 0.3 instead of 0.5
    results = list(correctness.of_speakers(predictions(labels, predicted, np.repeat(["a", "b"], 20), 2), CLASSES[:2]))
    errors = [check for check in by_name(results).values() if check.test == bounds.CORRECTNESS_SPEAKER_AVERAGE]
    assert [check.value for check in errors] == pytest.approx([0.1, 0.1])
    assert not any(check.passed for check in errors)  # the bound is not reached from below
    assert all(check.low is check.high is None for check in errors)  # of two speakers
    (ranking,) = skipped(results)
    assert "no ranking" in ranking.reason


def test_speakers_with_few_clips_of_a_class_are_left_out():
    labels = [0] * 8 + [1] * 8 + [0] * 9 + [1] * 7 + [0] * 8 + [1] * 9
    speakers = ["a"] * 16 + ["few"] * 16 + ["b"] * 17
    names = correctness._frequent_speakers(predictions(labels, labels, speakers, 2))
    assert names.tolist() == ["a", "b"]


@pytest.mark.parametrize(("order", "rho"), [((0, 1, 2, 3, 4, 5), 1.0), ((5, 4, 3, 2, 1, 0), -1.0)])
def test_ranking_of_speakers(order, rho):
    """The true share of the first class rises from speaker to speaker; the predicted one in the given order."""
    true, predicted, speakers = [], [], []
    for speaker, rank in enumerate(order):
        true += [0] * (8 + 4 * speaker) + [1] * 30
        predicted += [0] * (8 + 4 * rank) + [1] * (30 + 4 * (speaker - rank))
        speakers += [speaker] * (38 + 4 * speaker)
    checks = by_name(correctness.of_speakers(predictions(true, predicted, speakers, 2), CLASSES[:2]))
    ranking = [check for check in checks.values() if check.test == bounds.CORRECTNESS_SPEAKER_RANKING]
    assert [check.value for check in ranking] == pytest.approx([rho, rho])
    assert all(check.passed == (rho > 0) for check in ranking)  # ser-tests compares the absolute value


def test_rank_correlation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 5, 9)).astype(float)
    expected = [stats.spearmanr(*pair).statistic for pair in zip(first, second, strict=True)]
    np.testing.assert_allclose(correctness._spearman(first, second), expected)
    weights = np.array([[2.0, 0, 1], [1, 1, 1]])
    assert correctness._drawn(weights).tolist() == [[0, 0, 2], [0, 1, 2]]


def test_general_bootstrap_agrees_with_that_of_accuracy():
    rng = np.random.default_rng(1)
    labels, guesses = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    made = predictions(labels, np.where(rng.uniform(size=200) < 0.6, labels, guesses), rng.integers(0, 12, 200))
    right = (made.predicted == made.labels).astype(float)
    ours = estimate_of(made.speakers, lambda weights: weights @ right / weights.sum(axis=1))
    (theirs,) = estimates(made, ("accuracy",)).values()
    assert [float(each) for each in (ours.value, ours.low, ours.high)] == pytest.approx(
        [float(each) for each in (theirs.value, theirs.low, theirs.high)]
    )


def groups(women_right: int, men_right: int, *, women: int = 5, men: int = 5) -> tuple[Predictions, list[str]]:
    """Return ten clips of two classes of each speaker; of the first class, the given number is right."""
    labels, predicted, sex = [], [], []
    for name, count, right in (("female", women, women_right), ("male", men, men_right)):
        for _ in range(count):
            labels += [0] * 10 + [1] * 10
            predicted += [0] * right + [1] * (10 - right) + [1] * 10
            sex += [name] * 20
    return predictions(labels, predicted, np.arange(len(labels)) // 20, 2), sex


@pytest.mark.parametrize("women", [5, 15])
def test_differences_between_sexes_do_not_depend_on_their_numbers(women):
    made, sex = groups(10, 6, women=women)
    checks = by_name(fairness(bounds.FAIRNESS_SEX, made, CLASSES[:2], sex))
    assert checks["UAR, female"].value == pytest.approx(0.1)  # 1.0 against the mean of 1.0 and 0.8
    assert checks["UAR, male"].value == pytest.approx(-0.1)
    assert checks["recall of angry, male"].value == pytest.approx(-0.2)
    assert checks["recall of happy, male"].value == 0
    # of 20 clips of each sex, 10 are happy; of the men's, 4 more are predicted as happy, so 2 of the average
    assert checks["precision of happy, male"].value == pytest.approx(10 / 14 - 10 / 12)
    assert not checks["UAR, male"].passed
    assert not checks["recall of angry, male"].passed
    assert checks["recall of happy, male"].passed
    assert {checks["UAR, male"].bound, checks["recall of angry, male"].bound} == {0.075, 0.175}


def test_three_groups_have_the_wider_bounds_of_three():
    made, _ = groups(10, 10, women=8, men=7)
    values = np.repeat(["a", "b", "c"], 100)
    checks = by_name(fairness("fairness_age", made, CLASSES[:2], values))
    assert {check.bound for name, check in checks.items() if name.startswith("recall")} == {0.225}
    assert {check.bound for name, check in checks.items() if name.startswith("precision")} == {0.1}
    assert all(check.value == 0 and check.passed for check in checks.values())


def test_small_and_unknown_groups_are_left_out_with_a_reason():
    made, sex = groups(10, 6, men=4)
    results = list(fairness(bounds.FAIRNESS_SEX, made, CLASSES[:2], sex))
    assert by_name(results) == {}
    assert ["male (4)" in each.reason for each in skipped(results)] == [True, False]
    assert by_name(fairness(bounds.FAIRNESS_SEX, made, CLASSES[:2], ["unknown"] * len(sex))) == {}


def test_class_that_a_group_lacks_is_not_compared():
    made, sex = groups(10, 10)
    kept = (made.labels == 1) | (np.array(sex) == "female")
    checks = by_name(fairness(bounds.FAIRNESS_SEX, made.take(kept), CLASSES[:2], np.array(sex)[kept]))
    assert "recall of angry, female" in checks
    assert "recall of angry, male" not in checks


def test_unchanged_predictions_and_lost_recall(six_speakers):
    predicted = six_speakers.predicted.copy()
    predicted[::12] = 2  # one angry clip of each speaker
    changed = predictions(six_speakers.labels, predicted, six_speakers.speakers)
    condition = Condition(bounds.BACKGROUND_NOISE, "noise", unchanged)
    share, loss = robustness(condition, six_speakers, changed)
    assert (share.value, share.bound, share.passed) == (pytest.approx(11 / 12), 0.9, True)
    assert (loss.value, loss.bound, loss.passed) == (pytest.approx(-0.25 / 3), -0.05, False)
    same, _ = robustness(condition, six_speakers, changed, reference=changed)
    assert same.value == 1
    (small,) = robustness(dataclasses.replace(condition, test=bounds.SMALL_CHANGES), six_speakers, changed)
    assert not small.passed


def test_every_condition_is_compared_with_its_reference(six_speakers, monkeypatch):
    asked = []

    def predict(name, change):
        asked.append(name)
        return six_speakers

    result = of_predictions(six_speakers, CLASSES, {}, kinds=("robustness",), predict=predict)
    assert sorted(asked) == sorted([*(each.name for each in conditions.CONDITIONS), *conditions.REFERENCES])
    assert {check.test for check in result.checks} == bounds.UNCHANGED_ABOVE.keys()
    assert len(result.checks) == len(conditions.CONDITIONS) + 4 + 1 + 2
    assert not result.failed
    monkeypatch.setattr(measure.containers, "can_read", lambda: False)
    without = of_predictions(six_speakers, CLASSES, {}, kinds=("robustness",), predict=predict)
    (phone,) = without.skipped
    assert (phone.test, "pip install av" in phone.reason) == (bounds.LOW_QUALITY_PHONE, True)


def test_four_of_the_emotions_are_compared_by_the_largest_of_their_probabilities():
    rows = [[0.1, 0.5, 0.4], [0.3, 0.6, 0.1], [0.0, 1.0, 0.0]]
    made = Predictions.of([0, 1, 2], np.array(rows), ["a", "b", "c"])
    chosen, names, kept = among(made, CLASSES, ("sad", "angry"))
    assert names == ("angry", "sad")
    assert kept.tolist() == [True, False, True]
    assert chosen.labels.tolist() == [0, 1]
    assert chosen.predicted.tolist() == [1, 0]
    np.testing.assert_allclose(chosen.probabilities[0], [0.2, 0.8])


def test_of_predictions_holds_the_tests_that_were_asked_for(six_speakers):
    sex = np.where(six_speakers.speakers.astype(int) < 3, "female", "male").tolist()
    whole = of_predictions(six_speakers, CLASSES, {"sex": sex})
    assert [whole.emotions, whole.clips, whole.speakers] == [CLASSES, 72, 6]
    assert {each.test for each in whole.skipped} >= {bounds.FAIRNESS_SEX, bounds.CORRECTNESS_SPEAKER_AVERAGE}
    fair = of_predictions(six_speakers, CLASSES, {"sex": sex}, kinds=("fairness",))
    assert fair.checks == ()
    assert Acceptance.model_validate_json(whole.model_dump_json()) == whole


def check(value: float, low: float | None, high: float | None, kind: str = "above") -> AcceptanceCheck:
    bound, passed = 0.5, value > 0.5 if kind == "above" else abs(value) < 0.5
    return AcceptanceCheck(
        test="t", name=f"{value}", value=value, low=low, high=high, bound=bound, kind=kind, passed=passed
    )


@pytest.mark.parametrize(
    ("made", "certain"),
    [
        (check(0.6, 0.55, 0.7), True),
        (check(0.6, 0.45, 0.7), False),
        (check(0.4, 0.3, 0.49), True),
        (check(0.6, None, None), False),
        (check(0.1, -0.2, 0.4, "within"), True),
        (check(0.1, -0.6, 0.4, "within"), False),
        (check(-0.7, -0.9, -0.6, "within"), True),
        (check(-0.7, -0.9, -0.4, "within"), False),
    ],
)
def test_interval_shows_whether_chance_can_explain_the_side_of_the_bound(made, certain):
    assert made.certain == certain


def test_row_of_a_test_is_its_worst_check():
    checks = (check(0.9, 0.8, 1.0), check(0.3, 0.2, 0.6), check(0.45, None, None))
    made = Acceptance(emotions=CLASSES, clips=1, speakers=1, checks=checks)
    assert rows_of_tests(made) == [("t", "0.3", "1 of 3", "30.0%", "20.0% to 60.0%", "above 50.0%")]


def test_group_of_a_speaker_without_one_is_unknown():
    assert groups_of(["a", "b"], {"age": {"a": "20 to 29"}}) == {"age": ["20 to 29", "unknown"]}
