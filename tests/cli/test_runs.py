"""``ser runs`` on an output folder with kept runs."""

import datetime

import pytest

from cli.main import main
from modules.reporting.runs import RUNS_DIR
from modules.reporting.summary import Evaluation, IntervalMethod, Metric, Push, Run, RunSummary, Training, Verdict
from modules.reporting.write import write

FIRST, SECOND, FAILED = "20261128-215943", "20261129-215943", "20261130-215943"


def kept_run(uar: float, *, blessed: bool, epochs: int) -> RunSummary:
    interval = IntervalMethod(level=0.95, resamples=10, seed=0, text="speakers")
    metrics = (Metric(name="uar", value=uar, low=uar - 0.1, high=uar + 0.1), Metric(name="ece", value=0.02))
    return RunSummary(
        run=Run(
            name="ser", started=datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC), status="completed", command="",
            config=f"seed: 0\ntraining: {{family: encoder_cnn, epochs: {epochs}}}",
        ),
        training=Training(family="encoder_cnn", parameters=9, epochs_run=epochs),
        evaluation=Evaluation(split="test", clips=70, speakers=5, classes=(), interval=interval, metrics=metrics),
        verdict=Verdict(blessed=blessed),
        pushed=Push(version="7") if blessed else None,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path):
    first, second = kept_run(0.4, blessed=True, epochs=6), kept_run(0.55, blessed=False, epochs=9)
    broken = first.run.model_copy(update={"status": "failed", "failed_component": "Trainer"})
    for name, summary in ((FIRST, first), (SECOND, second), (FAILED, RunSummary(run=broken))):
        write(summary, tmp_path / RUNS_DIR / name)
    return tmp_path


@pytest.fixture
def ser(capsys):
    """Function that runs ``ser runs`` and returns its exit code, its lines and its error."""

    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main(["runs", *map(str, words)])
        printed = capsys.readouterr()
        return stopped.value.code, [line.split() for line in printed.out.splitlines()], printed.err

    return run


def test_runs_are_listed_from_the_oldest(ser, root):
    status, lines, _ = ser("list", "--root", root)
    rows = {line[0]: line[1:] for line in lines if line and line[0] in (FIRST, SECOND, FAILED)}
    assert not status
    assert list(rows) == [FIRST, SECOND, FAILED]
    assert rows[FIRST][:4] == ["blessed", "encoder_cnn", "7", "40.0%"]
    assert rows[SECOND][:3] == ["rejected", "encoder_cnn", "55.0%"]
    assert rows[FAILED] == ["failed", "in", "Trainer"]


def test_two_runs_are_compared_by_metrics_and_settings(ser, root):
    status, lines, _ = ser("compare", FIRST, SECOND, "--root", root)
    assert not status
    assert ["UAR", "40.0%", "55.0%"] in lines
    assert ["training.epochs", "6", "9"] in lines
    assert not [line for line in lines if line and line[0] in ("seed", "training.family")]


def test_an_unknown_run_is_refused_with_the_known_ones(ser, root):
    status, _, error = ser("compare", FIRST, "20200101-000000", "--root", root)
    assert status == 2
    assert all(name in error for name in ("20200101-000000", FIRST, SECOND))


@pytest.mark.parametrize("place", ["absent", "file", "empty"])
def test_a_folder_without_runs_is_refused(ser, tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    status, _, error = ser("list", "--root", tmp_path / place)
    assert status == 2
    assert place in error


def test_the_newest_report_is_opened_by_default(ser, root, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    status, lines, _ = ser("open", "--root", root)
    assert not status
    assert lines == [[str(root / RUNS_DIR / FAILED / "report.html")]]
    assert opened == [str(root / RUNS_DIR / FAILED / "report.html")]
