"""``ser evaluate`` as a user starts it: from recordings to the table, stopped and started again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modules.demo_corpus import MARKER_FILE
from modules.demo_corpus.corpus import write_corpus
from modules.evaluation.calibration import apply_temperature

SETTINGS = (
    "training.family=original_cnn",
    "training.epochs=2",
    "augmentation.variants=[plain,noise]",
    "training.hyperparameters={filters: 4}",
)


def command(data: Path, root: Path, *more: str) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    ser = [sys.executable, "-c", "from cli.main import main; main()"]
    return [*ser, "evaluate", "--data", str(data), "--root", str(root), "--folds", "3", *settings, *more]


def start(*arguments) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def evaluated(demo_data, tmp_path_factory) -> Path:
    """Killed when the first fold's result was there, then started again."""
    root = tmp_path_factory.mktemp("evaluate")
    with subprocess.Popen(command(demo_data, root), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline_sec = time.monotonic() + 300
        while not results(root) and time.monotonic() < deadline_sec:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert len(results(root)) in (1, 2)
    first = min(results(root), key=lambda path: path.stat().st_mtime_ns)
    before = first.stat().st_mtime_ns
    finished = start(demo_data, root)
    assert finished.returncode == 0, finished.stderr
    assert "Ingesting" not in finished.stderr
    assert "3/3 folds" in finished.stderr
    assert first.stat().st_mtime_ns == before
    (root / "stdout.txt").write_text(finished.stdout)
    return root


def results(root: Path) -> list[Path]:
    return list((root / "cross_validation" / "folds").glob("[!.]*.json"))


def test_every_clip_is_judged_once_by_a_model_that_had_not_heard_its_speaker(evaluated):
    folds = [json.loads(path.read_text()) for path in results(evaluated)]
    assert len(folds) == 3
    clips = [clip for fold in folds for clip in fold["clip_ids"]]
    assert len(clips) == len(set(clips)) == 336
    for fold in folds:
        assert not set(fold["train"]) & set(fold["eval"]) | set(fold["test"]) & {*fold["train"], *fold["eval"]}
        assert len(fold["train"]) + len(fold["eval"]) + len(fold["test"]) == 24


@pytest.fixture(scope="module")
def planned(demo_data, evaluated):
    from pipeline.config import load_config
    from pipeline.cross_validation import run as cross_validation

    found = cross_validation.plan(load_config(overrides=SETTINGS), data=demo_data, root=evaluated, folds=3)
    assert all(found.path_of(fold) in results(evaluated) for fold in found.folds)
    return found


def test_the_kept_weights_answer_as_the_result_says(planned):
    from pipeline.cross_validation import run as cross_validation

    fold, result = planned.folds[1], list(cross_validation.results(planned))[1]
    positions, answers = cross_validation.predict(planned, fold, fold.test)
    assert tuple(planned.corpus.columns["clip_id"][positions]) == result.clip_ids
    np.testing.assert_allclose(apply_temperature(answers, result.temperature), result.probabilities, atol=1e-5)


def test_temperatures_of_the_folds_are_judged_beside_none_and_beside_those_that_nobody_doubted(planned):
    from benchmarks import calibration
    from pipeline.cross_validation import run as cross_validation

    found = list(cross_validation.results(planned))
    plain, fitted, used = calibration.choose(planned, found)
    assert plain.temperatures == (1, 1, 1)
    assert used.temperatures == tuple(result.temperature for result in found)
    doubted, believed = np.abs(np.log(used.temperatures)), np.abs(np.log(fitted.temperatures))
    assert (doubted < believed).all()
    as_kept = cross_validation.predictions(planned, found).probabilities
    np.testing.assert_allclose(used.predictions.probabilities, as_kept)
    assert np.abs(plain.predictions.probabilities - as_kept).max() > 1e-3


def test_the_table_the_json_and_the_report_say_the_same(evaluated):
    found = json.loads((evaluated / "cross_validation.json").read_text())
    (uar,) = [metric for metric in found["evaluation"]["metrics"] if metric["name"] == "uar"]
    assert uar["low"] < uar["value"] < uar["high"]
    assert uar["resampled"] == "speakers"
    assert [len(fold["test"]) for fold in found["folds"]] == [8, 8, 8]
    for text in ((evaluated / "stdout.txt").read_text(), (evaluated / "cross_validation.md").read_text()):
        assert f"{uar['value']:.1%}" in text
        assert f"{uar['low']:.1%} to {uar['high']:.1%}" in text
        assert "demo-01 to demo-08" in text
        assert "Synthetic speech" in text
    html = (evaluated / "cross_validation.html").read_text()
    assert "Cross-validation, 3 folds" in html
    assert "Synthetic speech" in html
    assert "demo-01 to demo-08" in html


@pytest.mark.slow
def test_each_corpus_is_judged_by_a_model_that_heard_the_other(tmp_path):
    for name, seed in (("demo", 0), ("ravdess", 1)):
        write_corpus(tmp_path / "data" / name, clips=24 * 7, seed=seed)
    (tmp_path / "data" / "ravdess" / MARKER_FILE).unlink()  # as far as anyone can tell
    finished = start(tmp_path / "data", tmp_path / "output", "--leave-corpus-out")
    assert finished.returncode == 0, finished.stderr
    assert "2/2 folds" in finished.stderr
    for fold in (json.loads(path.read_text()) for path in results(tmp_path / "output")):
        tested = {clip.partition("/")[0] for clip in fold["clip_ids"]}
        heard = {speaker.partition("-")[0] for speaker in (*fold["train"], *fold["eval"])}
        assert len(fold["clip_ids"]) == 24 * 7
        assert (tested, heard) in (({"demo"}, {"ravdess"}), ({"ravdess"}, {"demo"}))
    rows = [line.split()[:3] for line in finished.stdout.splitlines() if line.strip().startswith("without")]
    assert rows == [["without", "demo", "168"], ["without", "ravdess", "168"]]


def test_one_corpus_cannot_be_left_out(demo_data, evaluated):
    refused = start(demo_data, evaluated, "--leave-corpus-out")
    assert refused.returncode == 1
    assert "--leave-corpus-out needs at least two corpora, and --data has demo" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_bad_input_is_refused_at_once(tmp_path):
    refused = start(tmp_path / "none", tmp_path)
    assert refused.returncode == 1
    assert "there is no folder" in refused.stderr
    assert not list(tmp_path.iterdir())
