import datetime

import pytest

from modules.reporting.runs import RUNS_DIR, history, past_run, read_runs, run_id
from modules.reporting.summary import Evaluation, IntervalMethod, Metric, Push, Run, RunSummary, Training, Verdict
from modules.reporting.write import write

FIRST = datetime.datetime(2026, 11, 28, 21, 59, 43, tzinfo=datetime.UTC)


def summary_of_run(uar: float | None, *, started=FIRST, blessed=True) -> RunSummary:
    interval = IntervalMethod(level=0.95, resamples=10, seed=0, text="speakers")
    metrics = (Metric(name="uar", value=uar, low=0.3, high=0.6),)
    evaluation = Evaluation(split="test", clips=70, speakers=5, classes=(), interval=interval, metrics=metrics)
    return RunSummary(
        run=Run(name="ser", started=started, status="completed", command=""),
        training=Training(family="attentive_crnn", parameters=9, epochs_run=6),
        evaluation=evaluation if uar is not None else None,
        verdict=Verdict(blessed=blessed),
        pushed=Push(version="7") if blessed else None,
    )


@pytest.fixture
def root(tmp_path):
    """An output folder with four runs, of which one has no evaluation, and an unreadable one."""
    for minutes, uar in enumerate((0.4, None, 0.5, 0.45)):
        started = FIRST + datetime.timedelta(minutes=minutes)
        write(summary_of_run(uar, started=started, blessed=minutes != 3), tmp_path / RUNS_DIR / run_id(started))
    write(summary_of_run(0.9), tmp_path)  # the newest report lies next to them
    for name, text in (("20261128-225943", '{"schema_version": 1}'), ("20261128-235943", "{")):
        (tmp_path / RUNS_DIR / name).mkdir()
        (tmp_path / RUNS_DIR / name / "summary.json").write_text(text)
    return tmp_path


def test_ids_are_in_utc_and_sort_by_time():
    west = FIRST.astimezone(datetime.timezone(datetime.timedelta(hours=-5)))
    assert run_id(FIRST) == run_id(west) == "20261128-215943"
    assert run_id(FIRST) < run_id(FIRST + datetime.timedelta(seconds=1))


def test_kept_runs_are_read_from_the_oldest_to_the_newest(root):
    names = [name for name, _ in read_runs(root)]
    assert names == ["20261128-215943", "20261128-220043", "20261128-220143", "20261128-220243"]


def test_the_history_has_the_runs_with_a_uar(root):
    runs = history(root)
    assert [(run.uar, run.blessed, run.version) for run in runs] == [
        (0.4, True, "7"),
        (0.5, True, "7"),
        (0.45, False, None),
    ]
    assert (runs[0].low, runs[0].high, runs[0].family) == (0.3, 0.6, "attentive_crnn")


def test_a_run_without_a_uar_has_no_place_in_the_history(tmp_path):
    assert past_run("1", summary_of_run(None)) is None
    assert history(tmp_path) == ()
