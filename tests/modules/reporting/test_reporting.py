"""The evaluation's numbers against scikit-learn and a plain bootstrap; the summary and the page that show them."""

import datetime
import html.parser
import json
import re

import numpy as np
import pytest
import yaml
from sklearn import metrics as sklearn_metrics

from modules.data.labels import EMOTIONS
from modules.evaluation import intervals
from modules.evaluation.evaluate import compare, evaluate, length_slice
from modules.evaluation.intervals import Predictions, estimates, paired_differences, point_estimates
from modules.reporting.html import MISSING, RERUN, headline, render
from modules.reporting.summary import (
    SCHEMA_VERSION,
    Bounded,
    Check,
    Component,
    Data,
    Difference,
    Drift,
    DriftedFeature,
    Duplicate,
    Lineage,
    Metric,
    Protocol,
    Push,
    QuarantinedClip,
    Run,
    RunSummary,
    SplitData,
    SummaryVersionError,
    Training,
    Trial,
    Tuning,
    TuningSplits,
    Verdict,
)
from modules.reporting.write import write

SECTIONS = (
    "verdict", "metrics", "confusion", "errors", "slices", "training",
    "calibration", "data", "drift", "tuning", "runs", "components", "lineage",
)  # fmt: skip
HOSTILE = "Actor_01/<script>alert('x')</script>\"&.wav"


def _predictions(speakers=4, clips_each=42, strength=1.3, seed=0, classes=7) -> Predictions:
    random = np.random.default_rng(seed)
    clips = speakers * clips_each
    labels = np.arange(clips) % classes
    skill = random.normal(strength, 0.6, speakers).repeat(clips_each)
    logits = random.normal(size=(clips, classes))
    logits[np.arange(clips), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = np.repeat([f"ravdess-{index:02d}" for index in range(speakers)], clips_each)
    return Predictions.of(labels, probabilities.astype(np.float32), names)


def _sklearn_scores(predictions: Predictions) -> dict[str, float]:
    true, guess, rows = predictions.labels, predictions.predicted, predictions.probabilities
    present = np.unique(true)
    macro = {"labels": present, "average": "macro", "zero_division": 0}
    aucs = [sklearn_metrics.roc_auc_score(true == index, rows[:, index]) for index in present if len(present) > 1]
    return {
        "accuracy": sklearn_metrics.accuracy_score(true, guess),
        "uar": sklearn_metrics.recall_score(true, guess, **macro),
        "macro_precision": sklearn_metrics.precision_score(true, guess, **macro),
        "macro_f1": sklearn_metrics.f1_score(true, guess, **macro),
        "mcc": sklearn_metrics.matthews_corrcoef(true, guess),
        "auc": float(np.mean(aucs)) if aucs else float("nan"),
        "log_loss": sklearn_metrics.log_loss(true, rows, labels=range(rows.shape[1])),
    }


def _plain_ece(predictions: Predictions) -> float:
    confidence, right = predictions.probabilities.max(axis=1), predictions.predicted == predictions.labels
    gap = 0.0
    for low in np.arange(intervals.CALIBRATION_BINS) / intervals.CALIBRATION_BINS:
        inside = (confidence > low) & (confidence <= low + 1 / intervals.CALIBRATION_BINS)
        if inside.any():
            gap += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return gap


def _coarse(probabilities: np.ndarray) -> np.ndarray:
    rounded = np.round(probabilities, 1) + 0.01
    return rounded / rounded.sum(axis=1, keepdims=True)


class TestPointEstimates:
    @pytest.mark.parametrize("seed", range(3))
    def test_agree_with_scikit_learn(self, seed):
        predictions = _predictions(seed=seed)
        ours = point_estimates(predictions)
        for name, expected in _sklearn_scores(predictions).items():
            assert ours[name] == pytest.approx(expected, abs=1e-9), name
        assert ours["ece"] == pytest.approx(_plain_ece(predictions), abs=1e-9)

    def test_agree_where_a_class_has_no_clip(self):
        everything = _predictions()
        predictions = everything.take(~np.isin(everything.labels, [2, 5]))
        ours = point_estimates(predictions)
        for name, expected in _sklearn_scores(predictions).items():
            assert ours[name] == pytest.approx(expected, abs=1e-9), name

    def test_per_class_agrees_with_scikit_learn(self):
        predictions = _predictions()
        expected = sklearn_metrics.precision_recall_fscore_support(
            predictions.labels, predictions.predicted, labels=range(7), zero_division=0
        )
        ours = point_estimates(predictions, intervals.CLASS_METRICS)
        for name, values in zip(intervals.CLASS_METRICS, expected, strict=False):
            np.testing.assert_allclose(ours[name], values, atol=1e-9)

    def test_tied_scores_count_half_in_the_auc(self):
        predictions = _predictions()
        coarse = Predictions.of(predictions.labels, _coarse(predictions.probabilities), predictions.speakers)
        assert point_estimates(coarse)["auc"] == pytest.approx(_sklearn_scores(coarse)["auc"], abs=1e-9)

    def test_constant_predictions_have_chance_uar_and_no_correlation(self):
        predictions = _predictions()
        constant = np.tile(np.eye(7)[3], (len(predictions.labels), 1))
        ours = point_estimates(Predictions.of(predictions.labels, constant, predictions.speakers))
        assert ours["uar"] == pytest.approx(1 / 7)
        assert ours["mcc"] == 0
        assert ours["auc"] == 0.5


class TestIntervals:
    def test_resamples_equal_the_metric_of_the_drawn_clips(self):
        predictions = _predictions(speakers=5, clips_each=14)
        names, clusters = np.unique(predictions.speakers, return_inverse=True)
        (weights,) = intervals._draws(clusters, 40, 7)
        fast = intervals._ClusterSums.of(predictions, clusters).scores(weights, intervals.SCALAR_METRICS)
        for number, drawn in enumerate(weights.astype(int)):
            chosen = np.concatenate(
                [
                    np.flatnonzero(predictions.speakers == name)
                    for name, n in zip(names, drawn, strict=True)
                    for _ in range(n)
                ]
            )
            resample = predictions.take(chosen)
            for name, expected in _sklearn_scores(resample).items():
                assert fast[name][number] == pytest.approx(expected, abs=1e-9), name
            assert fast["ece"][number] == pytest.approx(_plain_ece(resample), abs=1e-9)

    def test_limits_agree_with_a_brute_force_bootstrap(self):
        predictions = _predictions(speakers=20, clips_each=21)
        random = np.random.default_rng(99)
        names = np.unique(predictions.speakers)
        rows = {name: np.flatnonzero(predictions.speakers == name) for name in names}
        brute = []
        for _ in range(3000):
            chosen = np.concatenate([rows[name] for name in random.choice(names, len(names))])
            brute.append(np.mean(predictions.predicted[chosen] == predictions.labels[chosen]))
        ours = estimates(predictions, ("accuracy",), resamples=3000, seed=1)["accuracy"]
        low, high = intervals._limits(np.array(brute), len(names), 0.95)
        width = high - low
        assert ours.low == pytest.approx(low, abs=0.1 * width)
        assert ours.high == pytest.approx(high, abs=0.1 * width)

    def test_few_speakers_expand_the_percentiles(self):
        samples = np.random.default_rng(0).normal(size=20_000)
        plain = np.quantile(samples, [0.025, 0.975])
        few, many = intervals._limits(samples, 5, 0.95), intervals._limits(samples, 5000, 0.95)
        assert few[0] < plain[0] - 0.5
        assert few[1] > plain[1] + 0.5
        np.testing.assert_allclose(many, plain, atol=0.02)

    def test_different_speakers_widen_the_interval(self):
        predictions = _predictions(speakers=8, clips_each=70)
        as_if_independent = Predictions.of(
            predictions.labels, predictions.probabilities, [str(clip) for clip in range(len(predictions.labels))]
        )
        by_speaker, by_clip = (estimates(each, ("uar",))["uar"] for each in (predictions, as_if_independent))
        assert by_speaker.high - by_speaker.low > 1.5 * (by_clip.high - by_clip.low)

    def test_same_seed_same_interval_whatever_the_chunk(self, monkeypatch):
        whole = estimates(_predictions(), resamples=300, seed=5)
        monkeypatch.setattr(intervals, "_CELLS_PER_CHUNK", 168 * 7)
        chunked = estimates(_predictions(), resamples=300, seed=5)
        for name in whole:
            np.testing.assert_allclose(whole[name].low, chunked[name].low, atol=1e-12)
            np.testing.assert_allclose(whole[name].high, chunked[name].high, atol=1e-12)

    def test_a_single_speaker_is_resampled_by_clips(self):
        uar = estimates(_predictions(speakers=1), ("uar",))["uar"]
        assert uar.resampled == "clips"
        assert uar.low < uar.value < uar.high

    def test_a_single_clip_has_no_interval(self):
        accuracy = estimates(_predictions(speakers=1, clips_each=1), ("accuracy",))["accuracy"]
        assert np.isnan(accuracy.low)
        assert np.isnan(accuracy.high)


class TestPairedDifferences:
    def test_of_a_model_with_itself_is_zero(self):
        differences = paired_differences(_predictions(), _predictions())
        for estimate in differences.values():
            assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)

    def test_value_is_the_difference_of_the_two(self):
        better, worse = _predictions(strength=2.5, seed=1), _predictions(strength=0.5, seed=2)
        difference = paired_differences(better, worse)["uar"]
        assert difference.value == pytest.approx(point_estimates(better)["uar"] - point_estimates(worse)["uar"])
        assert difference.low > 0

    def test_shared_mistakes_narrow_the_interval(self):
        first = _predictions(speakers=8)
        rows = first.probabilities.copy()
        rows[:4] = rows[:4, ::-1]
        second = Predictions.of(first.labels, rows, first.speakers)
        paired, alone = paired_differences(first, second)["uar"], estimates(first)["uar"]
        assert paired.high - paired.low < 0.5 * (alone.high - alone.low)

    def test_refuses_other_clips(self):
        with pytest.raises(ValueError, match=r"168 .*164 "):
            paired_differences(_predictions(), _predictions(clips_each=41))

    @pytest.mark.parametrize(
        ("name", "low", "high", "direction"),
        [("uar", 0.01, 0.1, "better"), ("uar", -0.1, -0.01, "worse"), ("uar", -0.1, 0.1, "tie"),
         ("log_loss", 0.01, 0.1, "worse"), ("log_loss", -0.1, -0.01, "better"), ("uar", None, None, "tie")],
    )  # fmt: skip
    def test_direction(self, name, low, high, direction):
        assert Difference(name=name, candidate=0, baseline=0, difference=0, low=low, high=high).direction == direction


class TestPredictions:
    @pytest.mark.parametrize(
        ("labels", "rows", "speakers", "message"),
        [
            ([0, 1], np.full((2, 7), 1 / 7), ["a"], r"\(2,\).*\(1,\)"),
            ([], np.zeros((0, 7)), [], "0 clips"),
            ([7], np.full((1, 7), 1 / 7), ["a"], "0 to 6"),
            ([0], np.full((1, 7), 2.0), ["a"], "distributions"),
            ([0], np.array([[1.5, -0.5]]), ["a"], "distributions"),
        ],
    )
    def test_invalid_arrays_are_refused(self, labels, rows, speakers, message):
        with pytest.raises(ValueError, match=message):
            Predictions.of(labels, rows, speakers)


class TestEvaluate:
    def test_slices_hold_the_metrics_of_their_clips(self):
        predictions = _predictions()
        sex = np.where(np.isin(predictions.speakers, ["ravdess-00", "ravdess-02"]), "female", "male")
        evaluation = evaluate(
            predictions.labels, predictions.probabilities, predictions.speakers, classes=EMOTIONS, slices={"sex": sex}
        )
        by_key = {(each.dimension, each.value): each for each in evaluation.slices}
        assert {dimension for dimension, _ in by_key} == {"sex", "emotion", "speaker"}
        part = predictions.take(sex == "female")
        assert by_key["sex", "female"].metric("uar").value == pytest.approx(point_estimates(part)["uar"])
        assert by_key["sex", "female"].speakers == 2
        assert sum(each.clips for key, each in by_key.items() if key[0] == "emotion") == len(predictions.labels)

    @pytest.mark.parametrize(("speakers", "known"), [(4, False), (5, True)])
    def test_slices_of_few_speakers_have_no_interval(self, speakers, known):
        predictions = _predictions(speakers=speakers)
        evaluation = evaluate(predictions.labels, predictions.probabilities, predictions.speakers, classes=EMOTIONS)
        assert evaluation.interval_known is known
        for part in evaluation.slices:
            assert (part.metric("uar").low is not None) is (known and part.dimension == "emotion")

    def test_recall_is_equal_in_slice_and_class_row(self):
        predictions = _predictions()
        evaluation = evaluate(predictions.labels, predictions.probabilities, predictions.speakers, classes=EMOTIONS)
        for result in evaluation.per_class:
            part = next(each for each in evaluation.slices if each.value == result.emotion)
            assert part.metric("accuracy").value == pytest.approx(result.recall.value)
            assert part.metric("macro_f1") is None

    def test_calibration_bins_hold_every_clip_once(self):
        predictions = _predictions()
        evaluation = evaluate(predictions.labels, predictions.probabilities, predictions.speakers, classes=EMOTIONS)
        assert sum(each.clips for each in evaluation.calibration) == len(predictions.labels)
        assert all(each.low < each.confidence <= each.high for each in evaluation.calibration if each.clips)
        gaps = sum(each.clips * abs(each.confidence - each.accuracy) for each in evaluation.calibration if each.clips)
        assert evaluation.metric("ece").value == pytest.approx(gaps / evaluation.clips)

    def test_fewer_answers_are_more_confident(self):
        predictions = _predictions()
        threshold = float(np.quantile(predictions.probabilities.max(axis=1), 0.6))
        evaluation = evaluate(
            predictions.labels,
            predictions.probabilities,
            predictions.speakers,
            classes=EMOTIONS,
            min_confidence=threshold,
        )
        *usual, chosen = evaluation.coverages
        assert [each.coverage for each in usual] == pytest.approx([1, 0.75, 0.5, 0.25], abs=0.02)
        assert usual[0].accuracy.value == evaluation.metric("accuracy").value
        assert [each.chosen for each in evaluation.coverages] == [False] * len(usual) + [True]
        assert chosen.coverage == pytest.approx(0.4, abs=0.02)
        answered = predictions.take(predictions.probabilities.max(axis=1) >= threshold)
        assert chosen.accuracy.value == pytest.approx(np.mean(answered.predicted == answered.labels))

    def test_a_model_that_answers_nothing_has_no_accuracy(self):
        predictions = _predictions()
        evaluation = evaluate(
            predictions.labels,
            predictions.probabilities,
            predictions.speakers,
            classes=EMOTIONS,
            min_confidence=1.0,
        )
        assert evaluation.coverages[-1].coverage == 0
        assert evaluation.coverages[-1].accuracy.value is None

    def test_non_finite_predictions_are_counted(self):
        predictions = _predictions()
        rows = predictions.probabilities.copy()
        rows[3, 2] = np.nan
        evaluation = evaluate(predictions.labels, rows, predictions.speakers, classes=EMOTIONS)
        assert evaluation.non_finite_predictions == 1
        assert evaluation.metrics == ()
        assert evaluation.chance is None

    def test_few_speakers_have_a_caution(self):
        few, many = _predictions(speakers=4), _predictions(speakers=12)
        assert "4" in evaluate(few.labels, few.probabilities, few.speakers, classes=EMOTIONS).interval.caution
        assert evaluate(many.labels, many.probabilities, many.speakers, classes=EMOTIONS).interval.caution is None

    def test_refuses_a_slice_of_another_length(self):
        predictions = _predictions()
        with pytest.raises(ValueError, match=r"'sex' has 1 .*168"):
            evaluate(
                predictions.labels,
                predictions.probabilities,
                predictions.speakers,
                classes=EMOTIONS,
                slices={"sex": ["male"]},
            )

    @pytest.mark.parametrize(
        ("seconds", "name"), [(0.3, "0 to 2 s"), (2.0, "2 to 4 s"), (3.9, "2 to 4 s"), (4.0, "4 s or more")]
    )
    def test_length_slice(self, seconds, name):
        assert length_slice(seconds) == name


def _run(**changes) -> Run:
    fields = {
        "name": "ser-1",
        "started": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC),
        "seconds": 458.0,
        "status": "completed",
        "command": "python runner_local.py --data recordings",
        "config": "audio:\n  feature_family: utterance\n",
    }
    return Run(**(fields | changes))


def _data(corpus="ravdess") -> Data:
    per_emotion = dict.fromkeys(EMOTIONS, 24)
    return Data(
        splits=tuple(
            SplitData(split=split, clips=168, examples=168 * copies, speakers=4, hours=0.17,
                      by_corpus={corpus: 168}, by_emotion=per_emotion, by_sex={"female": 84, "male": 84})
            for split, copies in (("train", 4), ("eval", 1), ("test", 1))
        ),
        quarantined=(
            QuarantinedClip(path=HOSTILE, reason="unreadable", detail="<b>12 bytes</b>"),
            QuarantinedClip(path="b.wav", reason="silent"),
            QuarantinedClip(path="c.wav", reason="unreadable"),
        ),
        dropped_labels={"emodb: boredom": 81},
        duplicates=(Duplicate(kept="a.wav", dropped="d.wav"),),
        audio_spec={"sample_rate_hz": 22_050, "window_sec": 2.5},
        audio_spec_fingerprint="0d831b1c227118ba",
    )  # fmt: skip


@pytest.fixture(scope="module")
def complete() -> RunSummary:
    candidate, baseline = _predictions(strength=2, seed=1), _predictions(strength=1, seed=2)
    evaluation = evaluate(candidate.labels, candidate.probabilities, candidate.speakers, classes=EMOTIONS)
    tfma = Metric(name="uar", value=0.987_654, source="tfma")
    return RunSummary(
        run=_run(),
        protocol=Protocol(kind="speaker", seed=7, speakers={"test": tuple(np.unique(candidate.speakers).tolist())}),
        data=_data(),
        training=Training(
            family="original", parameters=1_284_551, epochs_run=3, epochs_limit=50, kept_epoch=2, seconds=58.0,
            history={"loss": (2.0, float("nan"), 1.5), "val_loss": (1.9, 1.8, 1.85)}, hyperparameters={"dropout": 0.2},
        ),
        tuning=Tuning(
            algorithm="Hyperband", objective="val_uar", higher_is_better=True,
            trials=(Trial(name="0", status="completed", score=0.4, hyperparameters={"kernel": 3}, curve=(0.2, 0.4)),
                    Trial(name="1", status="failed"),
                    Trial(name="2", status="completed", score=0.5, hyperparameters={"kernel": 5})),
        ),
        evaluation=evaluation.model_copy(update={"metrics": (*evaluation.metrics, tfma)}),
        verdict=Verdict(
            blessed=True, reasons=("UAR lies above the floor.",),
            checks=(Check(code="gate.uar", name="uar_floor", passed=True, text="above", value=0.6, bound=0.3),),
        ),
        baseline=compare(candidate, baseline, name="1763700000"),
        pushed=Push(version="1763756123", path="output/serving/1763756123", commands=("ser predict a.wav",)),
        components=(Component(name="Trainer", seconds=63.4, state="ran"),
                    Component(name="Transform", seconds=0.1, state="cached")),
        lineage=Lineage(config_fingerprint="9f3c", code_version="0.1.0", python="3.11.7", packages={"keras": "3.15"}),
    )  # fmt: skip


@pytest.fixture
def failed() -> RunSummary:
    return RunSummary(
        run=_run(status="failed", failed_component="AnomalyGate", error="Traceback\nValueError: <emotion> is 'calm'"),
        components=(Component(name="AnomalyGate", seconds=0.1, state="failed"),),
    )


class TestSummary:
    def test_json_round_trip(self, complete, failed):
        for summary in (complete, failed):
            assert RunSummary.from_json(summary.to_json()) == summary

    def test_numbers_are_finite_or_null(self, complete):
        def refuse(constant):
            raise AssertionError(f"{constant} is not JSON")

        content = json.loads(complete.to_json(), parse_constant=refuse)
        assert content["training"]["history"]["loss"] == [2.0, None, 1.5]
        infinite = Training(family="x", parameters=1, epochs_run=0, hyperparameters={"rate": float("inf"), "name": "a"})
        assert infinite.hyperparameters == {"rate": None, "name": "a"}

    def test_numpy_numbers_are_taken(self):
        assert Metric(name="uar", value=np.float32(0.5), low=np.float64("nan")).model_dump(
            include={"value", "low"}
        ) == {"value": 0.5, "low": None}

    @pytest.mark.parametrize("text", ['{"schema_version": 99}', "{}", "[]"])
    def test_another_version_is_refused(self, text):
        with pytest.raises(SummaryVersionError, match=str(SCHEMA_VERSION)):
            RunSummary.from_json(text)

    def test_quarantine_is_counted_by_reason(self, complete):
        assert complete.data.quarantined_by_reason == {"unreadable": 2, "silent": 1}

    def test_trials_are_ranked_by_the_direction_of_the_objective(self, complete):
        tuning = complete.tuning
        assert [trial.name for trial in tuning.ranked] == ["2", "0", "1"]
        downwards = tuning.model_copy(update={"higher_is_better": False})
        assert [trial.name for trial in downwards.ranked] == ["0", "2", "1"]


class _Page(html.parser.HTMLParser):
    """Parser that collects the text of a page and fails on a tag that is closed in the wrong order."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "line", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("href", "src", "srcset", "data", "action")]
        self.ids += [value for name, value in attrs if name == "id"]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class TestReport:
    def test_is_well_formed_and_has_every_section(self, complete, failed):
        for summary in (complete, failed, RunSummary(run=_run())):
            page = _Page(render(summary))
            assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)

    def test_makes_no_network_request(self, complete):
        text = render(complete)
        page = _Page(text)
        assert all(reference.startswith("#") for reference in page.references)
        assert {reference[1:] for reference in page.references} <= set(page.ids)
        assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
        assert not re.search(r"url\(|@import|https?:", text)
        assert len(text.encode()) < 1_500_000

    def test_is_laid_out_for_a_phone_and_for_paper(self, complete):
        text = render(complete)
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
        assert "@media print" in text
        assert re.search(r"@media \(max-width: \d+rem\)", text)

    def test_names_the_excluded_test_speakers(self, complete):
        assert "voice-01" not in _Page(render(complete)).text
        baseline = complete.baseline.model_copy(update={"excluded_speakers": ("voice-01", "voice-02")})
        text = _Page(render(complete.model_copy(update={"baseline": baseline}))).text
        assert "voice-01, voice-02" in text

    def test_shows_the_numbers_of_the_summary(self, complete):
        text = _Page(render(complete)).text
        uar = complete.evaluation.metric("uar")
        for shown in (
            f"{100 * uar.value:.1f}", "unknown with 4 speakers", "98.8", "Blessed and pushed",
            "1763756123", "ser predict a.wav", complete.protocol.sentence, "uar_floor",
            "1763700000", complete.evaluation.interval.caution, "emodb: boredom",
            "0d831b1c227118ba", "Hyperband", "feature_family",
        ):  # fmt: skip
            assert shown in text, shown

    def test_shows_the_interval_of_enough_speakers(self, complete):
        predictions = _predictions(speakers=6)
        evaluation = evaluate(predictions.labels, predictions.probabilities, predictions.speakers, classes=EMOTIONS)
        page = render(complete.model_copy(update={"evaluation": evaluation}))
        low, high = (f"{100 * value:.1f}" for value in (evaluation.metric("uar").low, evaluation.metric("uar").high))
        assert re.search(rf"interval {low}\W*% to {high}", _Page(page).text)
        assert "interval unknown" not in _Page(page).text

    def test_shows_drift(self, complete):
        ks = Bounded(value=0.41, threshold=0.2)
        drift = (
            Drift(
                what="new data", drifted=True, reasons=("1 of 270 features drifted, most of all rms.",),
                p_value=0.004, false_alarm_rate=0.04, reference_clips=1008, reference_speakers=17, current_clips=210,
                mean_ks=Bounded(value=0.1, threshold=0.2), feature_count=270,
                features=(DriftedFeature(name="rms", reference_median=0.01, current_median=0.02, ks=ks),),
                reference_labels={"angry": 0.5, "sad": 0.5}, current_labels={"angry": 0.25, "sad": 0.75},
            ),
            Drift(what="requests", not_compared="The log holds <nothing>."),
        )  # fmt: skip
        html = render(complete.model_copy(update={"drift": drift}))
        text = _Page(html).text
        for shown in ("✗ drifted", *drift[0].reasons, "0.410", drift[1].not_compared):
            assert shown in text, shown
        assert re.search(r"rms: 0\.410, .*0\.200", html)
        assert re.search(r"angry: 50\.0% .*25\.0% ", html)
        assert "<strong>0.410</strong>" in html, "above its threshold"
        summary = complete.model_copy(update={"drift": drift})
        assert RunSummary.from_json(summary.to_json()).drift == drift

    def test_strings_from_outside_are_escaped(self, complete):
        text = render(complete)
        assert "<script" not in text
        assert HOSTILE in _Page(text).text
        assert "<b>12 bytes" not in text

    def test_hostile_names_in_pictures_are_escaped(self, complete):
        history = {HOSTILE: (1.0, 2.0)}
        training = complete.training.model_copy(update={"history": history})
        trials = (Trial(name=HOSTILE, status=HOSTILE, score=0.1, curve=(0.1, 0.2), hyperparameters={HOSTILE: HOSTILE}),)
        tuning = complete.tuning.model_copy(update={"trials": trials, "objective": HOSTILE})
        text = render(complete.model_copy(update={"training": training, "tuning": tuning}))
        assert "script" not in _Page(text).tags

    def test_the_search_is_shown_trial_by_trial(self, complete):
        splits = TuningSplits(
            train_examples=4032, train_speakers=16, eval_clips=240, eval_speakers=4, speakers_in_both=0
        )
        trials = (
            Trial(
                name="1", status="completed", score=1.5, curve=(1.9, 1.5), hyperparameters={"kernel": 3}, seconds=9.5
            ),
            Trial(name="2", status="failed", hyperparameters={"kernel": 9}, failure="ValueError: <too> large"),
            Trial(
                name="3", status="completed", score=1.25, curve=(1.25,), first_epoch=3, hyperparameters={"kernel": 3}
            ),
        )
        tuning = Tuning(
            algorithm="hyperband", objective="val_loss", higher_is_better=False, trials=trials, splits=splits
        )
        page = render(complete.model_copy(update={"tuning": tuning}))
        text = _Page(page).text
        for shown in (
            "Hyperband search, 3 trials, 3 epochs",
            "240 clips of 4 ",
            "ValueError: <too> large",
            "val_loss per epoch",
        ):
            assert shown in text or shown in page, shown
        rows = re.findall(r"<tr[^>]*>.*?</tr>", page[page.index('id="tuning"') :], re.DOTALL)[1:4]
        assert [re.sub(r"<[^>]+>|\s+", " ", row).split()[:2] for row in rows] == [
            ["3", "1.2500"],
            ["1", "1.5000"],
            ["2", MISSING],
        ]
        assert f"3{MISSING}3" in rows[0]
        random_clips = splits.model_copy(update={"speakers_in_both": 4})
        rendered = render(complete.model_copy(update={"tuning": tuning.model_copy(update={"splits": random_clips})}))
        assert "4 of them" in _Page(rendered).text
        assert "4 of them" not in text

    def test_trials_are_shown_only_after_a_search(self, complete):
        table = "Score of each trial"
        assert table in render(complete)
        assert table not in render(complete.model_copy(update={"tuning": None}))

    def test_a_failed_run_shows_error_and_next_step(self, failed):
        text = _Page(render(failed)).text
        assert headline(failed).title in text
        assert "<emotion> is 'calm'" in text
        assert RERUN in text
        advised = failed.model_copy(update={"run": failed.run.model_copy(update={"next_step": "Map calm to neutral."})})
        assert "Map calm to neutral." in _Page(render(advised)).text

    def test_synthetic_speech_is_marked(self, complete):
        warning = "Nothing here is accuracy on human speech"  # the page's banner
        assert warning not in _Page(render(complete)).text
        assert warning in _Page(render(complete.model_copy(update={"data": _data("demo")}))).text

    def test_a_random_split_is_marked(self, complete):
        protocol = Protocol(kind="random_clip")
        text = _Page(render(complete.model_copy(update={"protocol": protocol}))).text
        assert protocol.sentence in text
        assert complete.protocol.sentence not in text
        assert "Training did not use them." not in text

    def test_an_override_of_the_gate_is_shown(self, complete):
        verdict = complete.verdict.model_copy(update={"override": "first model of a new corpus"})
        text = _Page(render(complete.model_copy(update={"verdict": verdict}))).text
        assert "first model of a new corpus" in text

    def test_a_model_without_metrics_is_shown(self, complete):
        predictions = _predictions()
        rows = np.full_like(predictions.probabilities, np.nan)
        evaluation = evaluate(predictions.labels, rows, predictions.speakers, classes=EMOTIONS)
        text = _Page(render(complete.model_copy(update={"evaluation": evaluation}))).text
        assert "168 of 168 clips" in text

    @pytest.mark.parametrize(
        ("changes", "tone", "title"),
        [
            ({}, "good", "Blessed and pushed"),
            ({"pushed": Push(reason="Dry run.")}, "good", "Blessed, not pushed"),
            ({"verdict": Verdict(blessed=False)}, "bad", "Rejected"),
            ({"verdict": None}, "plain", "Completed without a verdict"),
            ({"run": _run(status="failed", failed_component="Trainer")}, "bad", "Failed in Trainer"),
        ],
    )
    def test_headline(self, complete, changes, tone, title):
        outcome = headline(complete.model_copy(update=changes))
        assert (outcome.tone, outcome.title) == (tone, title)


class TestWrite:
    def test_leaves_its_files_and_nothing_else(self, complete, tmp_path):
        folder = tmp_path / "runs" / "1"
        summary_path, report_path, tuned_path = write(complete, folder)
        assert sorted(path.name for path in folder.iterdir()) == ["report.html", "summary.json", "tuned.yaml"]
        assert yaml.safe_load(tuned_path.read_text()) == {
            "audio": {"feature_family": "utterance"},
            "training": {"family": "original", "hyperparameters": {"dropout": 0.2}},
            "tuner": {"enabled": False},
        }
        assert RunSummary.from_json(summary_path.read_text(encoding="utf-8")) == complete
        assert report_path.read_text(encoding="utf-8") == render(complete)

    def test_replaces_the_former_run(self, complete, failed, tmp_path):
        write(complete, tmp_path)
        summary_path, report_path = write(failed, tmp_path)
        assert RunSummary.from_json(summary_path.read_text(encoding="utf-8")) == failed
        assert headline(failed).title in report_path.read_text(encoding="utf-8")

    def test_a_failed_write_keeps_the_former_file(self, complete, failed, tmp_path, monkeypatch):
        write(complete, tmp_path)

        def full_disk(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full_disk)
        with pytest.raises(OSError, match="Errno 28"):
            write(failed, tmp_path)
        assert RunSummary.from_json((tmp_path / "summary.json").read_text(encoding="utf-8")) == complete
        assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "summary.json", "tuned.yaml"]
