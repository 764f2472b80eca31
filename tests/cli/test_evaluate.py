"""``ser evaluate`` from recordings to the table, stopped and started again."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score

from modules.demo_corpus import MARKER_FILE
from modules.demo_corpus.corpus import write_corpus
from modules.evaluation.calibration import apply_temperature
from pipeline.cross_validation.protocols.catalog import protocol_named, protocol_names

SETTINGS = (
    "training.family=original_cnn",
    "training.epochs=2",
    "augmentation.variants=[plain,noise]",
    "training.hyperparameters={filters: 4}",
)


SER = (sys.executable, "-c", "from cli.main import main; main()")


def command(data: Path, root: Path, *more: str, folds: tuple[str, ...] = ("--folds", "3")) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return [*SER, "evaluate", "--data", str(data), "--root", str(root), *folds, *settings, *more]


def finish(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)


def start(*arguments) -> subprocess.CompletedProcess[str]:
    return finish(*command(*arguments))


def results(root: Path) -> list[Path]:
    return list((root / "cross_validation" / "folds").glob("[!.]*.json"))


def test_a_root_that_tfx_would_take_for_a_pattern_is_refused(tmp_path):
    finished = start(tmp_path, tmp_path / "[out]")
    assert finished.returncode == 2
    assert str(tmp_path / "[out]") in finished.stderr
    assert not (tmp_path / "[out]").exists()


@pytest.fixture(scope="module")
def evaluated(demo_data, tmp_path_factory) -> Path:
    """A cross-validation that was killed after the first fold and started again."""
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


@pytest.fixture(scope="module")
def planned(demo_data, evaluated):
    from pipeline.config import load_config
    from pipeline.cross_validation import run as cross_validation

    plan = cross_validation.plan(load_config(overrides=SETTINGS), data=demo_data, root=evaluated, folds=3)
    assert all(plan.path_of(fold) in results(evaluated) for fold in plan.folds)
    return plan


def test_each_clip_is_predicted_once_with_its_speaker_unseen(evaluated):
    folds = [json.loads(path.read_text()) for path in results(evaluated)]
    assert len(folds) == 3
    clips = [clip for fold in folds for clip in fold["clip_ids"]]
    assert len(clips) == len(set(clips)) == 336
    for fold in folds:
        assert not set(fold["train"]) & set(fold["eval"]) | set(fold["test"]) & {*fold["train"], *fold["eval"]}
        assert len(fold["train"]) + len(fold["eval"]) + len(fold["test"]) == 24


def test_stored_weights_reproduce_the_stored_predictions(planned):
    from pipeline.cross_validation import run as cross_validation

    fold, result = planned.folds[1], list(cross_validation.results(planned))[1]
    positions, answers = cross_validation.predict(planned, fold, fold.test)
    assert tuple(planned.corpus.columns["clip_id"][positions]) == result.clip_ids
    np.testing.assert_allclose(apply_temperature(answers, result.temperature), result.probabilities, atol=1e-5)


def test_acceptance_tests_are_those_of_the_table_and_the_reports(demo_data, evaluated):
    words = command(demo_data, evaluated, "--test", "correctness", "--test", "fairness", "--json")
    accepted = finish(*words[: len(SER)], "accept", "folds", *words[len(SER) + 1 :])
    assert accepted.returncode == 3, accepted.stderr  # the network of four filters recognises few emotions
    result = json.loads(accepted.stdout)
    content = json.loads((evaluated / "cross_validation.json").read_text())["evaluation"]
    assert result == content["acceptance"]
    assert (result["clips"], result["speakers"]) == (336, 24)
    checks = {(check["test"], check["name"]): check for check in result["checks"]}
    (uar,) = [metric for metric in content["metrics"] if metric["name"] == "uar"]
    check = checks["correctness_classification", "UAR"]
    assert [check[name] for name in ("value", "low", "high")] == pytest.approx(
        [uar[name] for name in ("value", "low", "high")]
    )
    assert check["passed"] == (uar["value"] > 0.5)
    assert ("fairness_sex", "UAR, female") in checks
    assert {each["test"] for each in result["skipped"]} == {
        "correctness_speaker_average",
        "correctness_speaker_ranking",
    }
    for report in ("cross_validation.md", "cross_validation.html"):
        assert f"{uar['value']:.1%}"[:-1] in (evaluated / report).read_text()
        assert "8 of each emotion" in (evaluated / report).read_text()


def test_changed_recordings_are_predicted_by_the_fold_that_is_new_to_the_speaker(
    demo_data, evaluated, planned, monkeypatch
):
    from modules.evaluation.acceptance import conditions, measure
    from pipeline.cross_validation import acceptance

    chosen = ("gain", "room: lecture, meeting or office", "babble, 20 dB")
    monkeypatch.setattr(measure, "CONDITIONS", [each for each in conditions.CONDITIONS if each.name in chosen])
    result = acceptance.accept(planned, demo_data, kinds=("robustness",), emotions=("angry", "sad"))
    assert result.emotions == ("angry", "sad")
    assert result.clips == 2 * 2 * 24
    values = {check.name: check.value for check in result.checks}
    assert values.keys() == {*(f"unchanged predictions, {name}" for name in chosen), "change of UAR, babble, 20 dB"}
    assert values["unchanged predictions, gain"] >= 0.9
    stored = {path: path.stat().st_mtime_ns for path in (evaluated / "cross_validation" / "changed").iterdir()}
    assert len({path.read_text() for path in stored}) == 4  # with the studio booth; every change changes something
    monkeypatch.setattr("pipeline.cross_validation.changed.extract", lambda *_: pytest.fail("extracted again"))
    assert acceptance.accept(planned, demo_data, kinds=("robustness",), emotions=("angry", "sad")) == result
    assert {path: path.stat().st_mtime_ns for path in stored} == stored


def test_emotions_that_the_model_does_not_have_are_refused(demo_data, evaluated):
    words = command(demo_data, evaluated, "--emotions", "angry,calm")
    refused = finish(*words[: len(SER)], "accept", "folds", *words[len(SER) + 1 :])
    assert refused.returncode == 2
    assert "angry,calm" in refused.stderr
    assert "surprise" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_benchmark_compares_shrunk_and_fitted_temperatures(planned):
    from benchmarks import calibration
    from pipeline.cross_validation import run as cross_validation

    stored = list(cross_validation.results(planned))
    plain, fitted, used = calibration.choose(planned, stored)
    assert plain.temperatures == (1, 1, 1)
    assert used.temperatures == tuple(result.temperature for result in stored)
    shrunk, unshrunk = np.abs(np.log(used.temperatures)), np.abs(np.log(fitted.temperatures))
    assert (shrunk < unshrunk).all()
    probabilities = cross_validation.predictions(planned, stored).probabilities
    np.testing.assert_allclose(used.predictions.probabilities, probabilities)
    assert np.abs(plain.predictions.probabilities - probabilities).max() > 1e-3


def test_table_json_and_report_agree(evaluated):
    content = json.loads((evaluated / "cross_validation.json").read_text())
    (uar,) = [metric for metric in content["evaluation"]["metrics"] if metric["name"] == "uar"]
    assert uar["low"] < uar["value"] < uar["high"]
    assert uar["resampled"] == "speakers"
    assert [len(fold["test"]) for fold in content["folds"]] == [8, 8, 8]
    for text in ((evaluated / "stdout.txt").read_text(), (evaluated / "cross_validation.md").read_text()):
        assert f"{uar['value']:.1%}" in text
        assert f"{uar['low']:.1%} to {uar['high']:.1%}" in text
        assert "demo-01 to demo-08" in text
    with (evaluated / "cross_validation.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len({row["clip_id"] for row in rows}) == len(rows) == content["evaluation"]["clips"]
    assert {row["fold"] for row in rows} == {fold["name"] for fold in content["folds"]}
    labels, predicted = ([row[name] for row in rows] for name in ("emotion", "predicted"))
    assert recall_score(labels, predicted, average="macro") == pytest.approx(uar["value"])
    html = (evaluated / "cross_validation.html").read_text()
    assert "3 folds" in html
    assert "demo-01 to demo-08" in html


@pytest.mark.slow
def test_each_corpus_is_predicted_by_a_model_of_the_other(tmp_path):
    for name, seed in (("demo", 0), ("ravdess", 1)):
        write_corpus(tmp_path / "data" / name, clips=24 * 7, seed=seed)
    (tmp_path / "data" / "ravdess" / MARKER_FILE).unlink()  # so that it counts as recordings
    finished = start(tmp_path / "data", tmp_path / "output", "--leave-corpus-out")
    assert finished.returncode == 0, finished.stderr
    assert "2/2 folds" in finished.stderr
    for fold in (json.loads(path.read_text()) for path in results(tmp_path / "output")):
        tested = {clip.partition("/")[0] for clip in fold["clip_ids"]}
        trained = {speaker.partition("-")[0] for speaker in (*fold["train"], *fold["eval"])}
        assert len(fold["clip_ids"]) == 24 * 7
        assert (tested, trained) in (({"demo"}, {"ravdess"}), ({"ravdess"}, {"demo"}))
    rows = [line.split()[:3] for line in finished.stdout.splitlines() if line.strip().startswith("without")]
    assert rows == [["without", "demo", "168"], ["without", "ravdess", "168"]]


def test_one_corpus_cannot_be_left_out(demo_data, evaluated):
    refused = start(demo_data, evaluated, "--leave-corpus-out")
    assert refused.returncode == 2
    assert "--leave-corpus-out" in refused.stderr
    assert "demo" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr


@pytest.fixture
def small_savee(demo_data, tmp_path) -> Path:
    """One recording of each emotion of four speakers, with the names of SAVEE."""
    folder = tmp_path / "savee"
    codes = {"01": "n", "03": "h", "04": "sa", "05": "a", "06": "f", "07": "d", "08": "su"}
    for actor, speaker in enumerate(("DC", "JE", "JK", "KL"), start=1):
        (folder / speaker).mkdir(parents=True)
        for code, emotion in codes.items():
            recording = next(demo_data.glob(f"Actor_{actor:02}/03-01-{code}-*.wav"))
            shutil.copy(recording, folder / speaker / f"{emotion}01.wav")
    return folder


def test_protocol_names_its_folds_in_output_json_and_reports(small_savee, tmp_path):
    root = tmp_path / "output"
    protocol = ("--protocol", "savee-loso")
    finished = finish(*command(small_savee, root, "--set", "training.epochs=1", folds=protocol))
    assert finished.returncode == 0, finished.stderr
    content = json.loads((root / "cross_validation.json").read_text())
    digest = content["folds_sha256"]
    assert digest == protocol_named("savee-loso").folds_sha256
    assert content["protocol"]["name"] == "savee-loso"
    assert (content["family"], len(content["folds"])) == ("original_cnn", 4)
    for fold in content["folds"]:
        assert fold["eval"]
        assert not set(fold["eval"]) & set(fold["test"])
    first = finished.stdout.splitlines()[0]
    for text in (first, (root / "cross_validation.md").read_text(), (root / "cross_validation.html").read_text()):
        assert "savee-loso" in text
        assert digest in text
        assert "28 of its 480 recordings" in text
    recalls = [fold["metrics"][0]["value"] for fold in content["folds"]]
    assert f"UAR {np.mean(recalls):.1%} ± {np.std(recalls, ddof=1):.1%}" in finished.stdout


def test_protocols_are_listed():
    listed = finish(*SER, "evaluate", "--protocol", "list")
    assert listed.returncode == 0, listed.stderr
    titles = dict(line.split(maxsplit=1) for line in listed.stdout.splitlines())
    assert titles == {name: protocol_named(name).title for name in protocol_names()}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--protocol", "ravdess"), "ravdess-emobox"),
        (("--protocol", "ravdess-ordered", "--folds", "3"), "--folds"),
        (("--protocol", "ravdess-ordered", "--leave-corpus-out"), "--leave-corpus-out"),
        (("--protocol", "ravdess-emobox", "--set", "labels.emotions=[angry, sad]"), "labels is angry, sad"),
        (("--protocol", "ravdess-emobox"), "also has demo-01"),
    ],
)
def test_protocol_that_cannot_be_followed_is_refused_before_recordings_are_read(demo_data, tmp_path, words, reason):
    refused = finish(*SER, "evaluate", "--data", str(demo_data), "--root", str(tmp_path / "output"), *words)
    assert refused.returncode == 2
    assert reason in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "output" / "cross_validation").exists()


def test_bad_input_is_refused_at_once(tmp_path):
    refused = start(tmp_path / "none", tmp_path)
    assert refused.returncode == 2
    assert str(tmp_path / "none") in refused.stderr
    assert not list(tmp_path.iterdir())
