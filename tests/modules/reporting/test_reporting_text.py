import datetime
from pathlib import Path

from modules.reporting.advice import AFTER_CHECK
from modules.reporting.summary import Check, Push, Run, RunSummary, Training, Trial, Tuning, Verdict
from modules.reporting.text import outline


def summary(*, status="completed", **sections):
    run_keys = ("failed_component", "error", "next_step")
    run = Run(
        name="ser", started=datetime.datetime.now(datetime.UTC), status=status, command="python runner_local.py",
        **{key: sections.pop(key) for key in run_keys if key in sections},
    )  # fmt: skip
    return RunSummary(run=run, **sections)


def test_a_rejection_lists_every_reason():
    text = outline(
        summary(verdict=Verdict(blessed=False, reasons=("too low", "too few")), pushed=Push(reason="too low")),
        Path("output"),
    )
    assert "REJECTED too low\n         too few\n" in text
    assert "Pushed   nothing" in text


def test_a_rejection_has_a_next_step():
    check = Check(code="gate.uar_interval", name="interval", passed=False, text="too low")
    text = outline(summary(verdict=Verdict(blessed=False, checks=(check,), reasons=("too low",))), Path("output"))
    assert f"REJECTED too low\nNext     {AFTER_CHECK[check.code]}\n" in text


def test_a_push_names_version_and_path():
    text = outline(
        summary(verdict=Verdict(blessed=True, reasons=("fine",)), pushed=Push(version="7", path="s/7")), Path("output")
    )
    assert "BLESSED  fine" in text
    assert "Pushed   version 7 to s/7" in text
    assert "output/report.html" in text


def test_a_failure_shows_component_error_and_next_step():
    text = outline(summary(status="failed", failed_component="Trainer", error="NaN", next_step="fix"), Path("output"))
    assert "FAILED   in Trainer\n         NaN\nNext     fix" in text


def test_a_failure_without_details_prints_no_none():
    assert "None" not in outline(summary(status="failed", failed_component="Trainer"), Path("output"))


def test_a_search_prints_its_result_as_a_configuration():
    best = {"filters": 16, "dropout": 0.1}
    trials = (Trial(name="1", status="completed", score=0.5, hyperparameters=best),)
    text = outline(
        summary(
            training=Training(family="original_cnn", parameters=7, epochs_run=3, hyperparameters=best),
            tuning=Tuning(algorithm="random", objective="val_loss", higher_is_better=False, trials=trials),
        ),
        Path("output"),
    )
    assert "Tuned    training.hyperparameters={filters: 16, dropout: 0.1}\n" in text
    assert "--config output/tuned.yaml" in text
