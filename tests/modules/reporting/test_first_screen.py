import datetime

import pytest

from components.serving_validator.executor import CODE as SERVING
from modules.evaluation import gate
from modules.reporting import advice
from modules.reporting.first_screen import comparisons, interval_words, next_steps, weakest
from modules.reporting.html import render
from modules.reporting.summary import (
    Baseline,
    Check,
    Difference,
    Evaluation,
    IntervalMethod,
    Metric,
    PastRun,
    Push,
    Run,
    RunSummary,
    SliceResult,
    Verdict,
)
from modules.training.trainer import TrainingDiverged
from tests.test_error_codes import code_of, errors

INTERVAL = IntervalMethod(level=0.95, resamples=10, seed=0, text="speakers")
PUSHED = Push(version="7", path="/elsewhere/serving/7")
STARTED = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)


def part(dimension: str, value: str, uar: float, clips: int = 20) -> SliceResult:
    return SliceResult(
        dimension=dimension, value=value, clips=clips, speakers=5, metrics=(Metric(name="uar", value=uar),)
    )


def summary(*, speakers: int = 8, **sections) -> RunSummary:
    evaluation = Evaluation(
        split="test",
        clips=70,
        speakers=speakers,
        classes=("angry", "sad"),
        interval=INTERVAL,
        metrics=(Metric(name="uar", value=0.7, low=0.6, high=0.8),),
        confusion=((6, 4), (2, 8)),
        slices=(
            part("sex", "female", 0.75),
            part("sex", "male", 0.65),
            part("speaker", "toy-1", 0.5),
            part("speaker", "toy-2", 0.4),
            part("corpus", "toy", 0.7),
            part("length", "0 to 2 s", 0.1, clips=4),
        ),
    )
    run = Run(name="ser", started=STARTED, status="completed", command="")
    return RunSummary(run=run, **{"evaluation": evaluation, "verdict": Verdict(blessed=True)} | sections)


def baseline(speakers: int, low: float) -> Baseline:
    uar = Difference(name="uar", candidate=0.7, baseline=0.6, difference=0.1, low=low, high=0.2)
    return Baseline(name="model 7", split="test", clips=70, speakers=speakers, differences=(uar,))


def failed(code: str) -> Check:
    return Check(code=code, name=code, passed=False, text="too low")


def test_the_uar_is_compared_with_guessing_the_baseline_and_the_run_before():
    history = (PastRun(id="1", started=STARTED, uar=0.5), PastRun(id="2", started=STARTED, uar=0.9))
    compared = comparisons(summary(baseline=baseline(8, 0.05), history=history))
    assert [(each.uar, pytest.approx(each.difference), each.reading) for each in compared] == [
        (0.5, 0.2, ""),
        (0.6, 0.1, "better"),
        (0.9, -0.2, ""),
    ]


@pytest.mark.parametrize(("speakers", "low", "reading"), [(8, 0.05, "better"), (8, -0.05, "tie"), (4, 0.05, "4")])
def test_few_speakers_leave_the_difference_open(speakers, low, reading):
    assert reading in comparisons(summary(baseline=baseline(speakers, low)))[1].reading


def test_the_weakest_slice_of_each_dimension_is_named():
    named = [(each.dimension, each.value) for each in weakest(summary())]
    assert named == [("speaker", "toy-2"), ("sex", "male")]  # not above the whole, nor of a handful of clips


def test_the_interval_of_few_speakers_is_unknown():
    assert interval_words(summary()) == "95 % interval 60.0% to 80.0%"
    assert "unknown with 4 speakers" in interval_words(summary(speakers=4))
    assert "unknown with 1 speaker" in interval_words(summary(speakers=1))
    assert interval_words(summary(evaluation=None)) == "interval unknown"


def test_each_failed_check_has_one_next_step():
    verdict = Verdict(blessed=False, checks=(failed("gate.slice_uar"), failed("gate.slice_uar"), failed("gate.uar")))
    steps = next_steps(summary(verdict=verdict))
    assert steps == (advice.AFTER_CHECK["gate.slice_uar"], advice.AFTER_CHECK["gate.uar"])


def test_a_pushed_model_is_served_from_its_folder():
    steps = next_steps(summary(pushed=PUSHED))
    assert steps == ("Serve it: `ser serve --model-base-path /elsewhere/serving`.", advice.WATCH)


def test_a_deployed_model_needs_no_server():
    assert next_steps(summary(pushed=PUSHED.model_copy(update={"endpoint": "vertex://p/l/7"}))) == (advice.WATCH,)


def test_without_a_push_there_is_nothing_to_serve():
    assert next_steps(summary()) == ()
    assert "<h2>Next</h2>" not in render(summary())
    assert "<h2>Next</h2>" in render(summary(pushed=PUSHED))


def test_an_evaluation_without_a_gate_has_no_verdict():
    assert "no verdict" in render(summary(verdict=None))
    assert "No model was evaluated" in render(summary(verdict=None, evaluation=None))


def test_a_blessed_model_of_few_speakers_needs_more():
    assert next_steps(summary(speakers=4, pushed=PUSHED))[0] == advice.FEW_SPEAKERS


def test_every_check_has_advice():
    codes = {value for value in vars(gate).values() if isinstance(value, str) and value.startswith("gate.")}
    assert {*codes, SERVING} == advice.AFTER_CHECK.keys()


def test_advice_after_errors_is_by_codes_that_exist():
    codes = {code_of(kind) for kind in errors().values()}
    assert advice.AFTER_ERROR.keys() <= codes


def test_the_next_step_fits_the_error():
    assert advice.AFTER_ERROR["training.diverged"] in advice.after_error(TrainingDiverged("nan"), "run.log")
    assert advice.ANY_ERROR in advice.after_error(KeyError("x"), "run.log")
