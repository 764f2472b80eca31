"""``ser batch``: every recording once, whatever ends the process, with the server's answers."""

import collections
import csv
import dataclasses
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from pyarrow import parquet

from cli.exits import ExitCode
from modules.audio.decoding import AudioCode, AudioLimits
from modules.data.labels import EMOTIONS
from modules.export import manifest
from modules.export.contract import NO_SPEECH
from serving.batch.in_process import InProcess
from serving.batch.plan import NoVersion, OtherBatch, Output, PushedModel, find_model, make_plan
from serving.batch.tables import ENCODERS, result_row
from serving.client import Client, Prediction
from serving.client.segments import whole
from tests.beam_processes import worker_processes
from tests.commands import ser
from tests.exports import export_random_model
from tests.keys import write_keys
from tests.paths import RAVDESS_RATE_HZ, ROOT

SER = [sys.executable, "-c", "from cli.main import main; main()"]
COLUMNS = ["file", "emotion", *EMOTIONS, "speech", "model_version"]
UNUSABLE = {
    "empty.mp3": AudioCode.EMPTY,
    "short.wav": AudioCode.TOO_SHORT,
    "text.wav": AudioCode.UNREADABLE,
}
GOOD = 40


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, speechlike) -> Path:
    """Recordings of two formats in two folders, and unusable ones."""
    folder = tmp_path_factory.mktemp("batch") / "recordings"
    (folder / "calls").mkdir(parents=True)
    for number in range(GOOD):
        name = f"calls/{number:02d}.flac" if number % 2 else f"{number:02d}.wav"
        soundfile.write(folder / name, speechlike(1 + number % 4, seed=number), 48_000)
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "text.wav").write_bytes(b"no sound")
    soundfile.write(folder / "short.wav", speechlike(0.05), 48_000)
    return folder


@pytest.fixture(scope="module")
def limited(tmp_path_factory) -> PushedModel:
    """The same weights, for recordings of at most five seconds."""
    folder = tmp_path_factory.mktemp("limited")
    return PushedModel(str(export_random_model("original_cnn", folder, AudioLimits(max_duration_sec=5))), 1)


def csv_rows(folder: Path) -> list[dict[str, str]]:
    files = sorted(folder.glob("*.csv"))
    return [row for file in files for row in csv.DictReader(io.StringIO(file.read_text()))]


def error_rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def times(files) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in files}


def wait_for_files(process: subprocess.Popen, results: Path, *, files: int) -> None:
    """Wait until a batch has written some files."""
    deadline = time.monotonic() + 300
    while len(list(results.glob("*.csv"))) < files and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def require_each_once(recordings: Path, out: Path) -> None:
    rows, errors = csv_rows(out / "results"), error_rows(out / "errors")
    assert list(rows[0]) == COLUMNS
    names = collections.Counter(row["file"] for row in [*rows, *errors])
    files = {str(path) for path in recordings.rglob("*") if path.is_file()}
    assert names == collections.Counter(files)
    assert {Path(error["file"]).name: error["error"] for error in errors} == UNUSABLE
    assert all(error["error"] in error["message"] for error in errors)


def test_a_killed_batch_goes_on_and_each_recording_has_one_row(recordings, base, tmp_path):
    out = tmp_path / "out"
    words = [recordings, "--out", out, "--model-base-path", base, "--format", "csv", "--recordings-per-file", "1"]
    command = [*SER, "batch", *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for_files(process, out / "results", files=3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = times((out / "results").glob("*.csv"))
    assert 3 <= len(before) < GOOD + len(UNUSABLE)

    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == ExitCode.PARTLY, finished.stderr
    assert f"{GOOD + len(UNUSABLE)} recordings: {GOOD} with an answer" in finished.stdout
    assert f"{GOOD + len(UNUSABLE)}/{GOOD + len(UNUSABLE)} recordings  100 %" in finished.stderr
    assert before.items() <= times((out / "results").glob("*.csv")).items()
    require_each_once(recordings, out)


def test_a_killed_worker_process_ends_the_batch_which_then_goes_on(recordings, base, tmp_path):
    out = tmp_path / "out"
    words = [recordings, "--out", out, "--model-base-path", base, "--format", "csv", "--recordings-per-file", "1"]
    command = [*SER, "batch", *map(str, words), "--", "--direct_running_mode=multi_processing"]
    with (tmp_path / "stderr").open("w+") as printed, subprocess.Popen(command, cwd=ROOT, stderr=printed) as process:
        wait_for_files(process, out / "results", files=3)
        workers = worker_processes(process)
        workers[0].kill()
        assert process.wait(timeout=60) == ExitCode.FAILED
        printed.seek(0)
        error = printed.read()
    assert "a worker process of Beam's local runner was lost" in error
    assert "run the same command again to continue" in error
    assert "Traceback" not in error
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert 3 <= len(list((out / "results").glob("*.csv"))) < GOOD + len(UNUSABLE)

    assert subprocess.run(command, cwd=ROOT, check=False).returncode == ExitCode.PARTLY
    require_each_once(recordings, out)


def test_answers_are_those_of_the_server(recordings, base, shared_server):
    names = sorted(str(path) for path in recordings.rglob("*") if path.is_file())
    answers = Client(InProcess(PushedModel(str(base / "3"), 3))).predict_each(names)
    with Client(shared_server.address, timeout_sec=60) as client:
        expected = client.predict_each(names)
    assert [getattr(answer, "code", None) for answer in answers] == [getattr(each, "code", None) for each in expected]
    pairs = [pair for pair in zip(answers, expected, strict=True) if isinstance(pair[0], Prediction)]
    assert len(pairs) == GOOD
    for answer, served in pairs:
        assert (answer.emotion, answer.model_version) == (served.emotion, served.model_version)
        assert answer.probabilities == pytest.approx(served.probabilities, abs=1e-5)
        assert answer.speech == pytest.approx(served.speech, abs=1e-5)


@pytest.mark.parametrize("suffix", ["wav", "mp3"])
def test_a_recording_beyond_the_limits_has_the_mean_of_its_windows(exported_model, limited, tmp_path, ravdess, suffix):
    clips = [soundfile.read(clip, dtype="float32")[0] for clip in sorted(ravdess.glob("Actor_0[12]/*.flac"))[::7][:5]]
    silence = np.zeros(RAVDESS_RATE_HZ * 6, np.float32)
    file = tmp_path / f"long.{suffix}"
    soundfile.write(file, np.concatenate([*clips[:3], silence, *clips[3:]]), RAVDESS_RATE_HZ)
    expected = whole(list(Client(InProcess(PushedModel(str(exported_model), 1))).timeline(file)))
    answer = Client(InProcess(limited)).predict(file)
    assert answer.emotion == expected.emotion
    assert answer.probabilities == pytest.approx(expected.probabilities, abs=2e-3)
    assert answer.speech == pytest.approx(expected.speech, abs=2e-2)


@pytest.mark.parametrize("duration_sec", [2, 20])
def test_a_recording_of_silence_has_no_speech_whatever_its_length(limited, tmp_path, duration_sec):
    soundfile.write(tmp_path / "silent.wav", np.zeros(48_000 * duration_sec), 48_000)
    answer = Client(InProcess(limited)).predict(tmp_path / "silent.wav")
    assert (answer.emotion, answer.speech) == (NO_SPEECH, 0)


def prediction(**changes) -> Prediction:
    probabilities = dict.fromkeys(EMOTIONS, 1 / 8) | {"sad": 1 / 4}
    made = Prediction(
        emotion="sad",
        probabilities=probabilities,
        confidence=1 / 4,
        min_confidence=0.0,
        speech=0.5,
        model_version=1_795_897_733,
    )
    return dataclasses.replace(made, **changes)


def test_formats_hold_the_same_rows():
    answers = {"a.wav": prediction(), 'b, "c".wav': prediction(emotion=NO_SPEECH, speech=0.0)}
    rows = [result_row(name, answer) for name, answer in answers.items()]
    content = {form: encode(rows, EMOTIONS) for form, encode in ENCODERS.items()}
    table = parquet.read_table(io.BytesIO(content["parquet"]))
    assert table.column_names == COLUMNS
    assert table.to_pylist() == rows
    assert [json.loads(line) for line in content["jsonl"].splitlines()] == rows
    read = list(csv.DictReader(io.StringIO(content["csv"].decode())))
    text = {"file", "emotion"}
    assert [{name: row[name] if name in text else float(row[name]) for name in COLUMNS} for row in read] == rows


@pytest.mark.parametrize("form", ENCODERS)
def test_a_shard_without_an_answer_and_a_name_that_is_not_utf8(form):
    ENCODERS[form]([], EMOTIONS)
    assert b"sad" in ENCODERS[form]([result_row("caf\udce9.wav", prediction())], EMOTIONS)


@pytest.mark.parametrize("change", ["recordings", "form", "recordings_per_file", "model"])
def test_another_batch_is_refused(base, tmp_path, change):
    output = Output(str(tmp_path / "out"), "csv")
    model, options = find_model(str(base)), {"output": output, "recordings_per_file": 2}
    plan = make_plan(model, ["a.wav", "b.wav", "c.wav"], **options)
    assert plan.shards == [["a.wav", "b.wav"], ["c.wav"]]
    assert make_plan(model, ["a.wav", "b.wav", "c.wav"], **options) == plan

    recordings = ["a.wav", "b.wav", "d.wav"] if change == "recordings" else ["a.wav", "b.wav", "c.wav"]
    if change == "model":  # the same version number, of another export
        shutil.copytree(model.path, tmp_path / "3")
        (tmp_path / "3" / "fingerprint.pb").write_bytes(b"another")
        model = PushedModel(str(tmp_path / "3"), 3)
    other_form = {"output": dataclasses.replace(output, form="jsonl")}
    changed = {"form": other_form, "recordings_per_file": {"recordings_per_file": 3}}.get(change, {})
    with pytest.raises(OtherBatch) as refused:
        make_plan(model, recordings, **(options | changed))
    assert refused.value.code == "batch.other_batch"
    assert plan.output.read_shards() == plan.shards


def test_the_newest_version_or_the_named_one(base, tmp_path, push):
    shutil.copytree(base, tmp_path / "serving")
    push(tmp_path / "serving", 12)
    (tmp_path / "serving" / "13").mkdir()  # a push that is not complete
    assert find_model(str(tmp_path / "serving")).version == 12
    assert find_model(str(tmp_path / "serving"), 3).path == str(tmp_path / "serving" / "3")
    with pytest.raises(NoVersion) as absent:
        find_model(str(tmp_path / "serving"), 4)
    assert absent.value.code == "batch.no_version"


def test_a_changed_or_unsigned_model_is_refused(tmp_path, push, recordings, capsys):
    push(tmp_path / "serving", 3)
    private, public = write_keys(tmp_path / "keys")
    manifest.write(str(tmp_path / "serving/3"), signing_key=private)
    assert find_model(str(tmp_path / "serving"), public_key=public).version == 3
    words = ["batch", recordings, "--out", tmp_path / "out", "--model-base-path", tmp_path / "serving"]
    _, other = write_keys(tmp_path / "other")
    for damage in (lambda: None, lambda: (tmp_path / "serving/3/saved_model.pb").write_bytes(b"changed")):
        damage()
        ended = ser(capsys, *words, "--public-key", other)
        assert ended.code in (ExitCode.FAILED, ExitCode.REFUSED), ended.text
        assert "saved_model.pb" in ended.text or other in ended.text
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("empty", []),
        ("missing", []),
        ("recordings", ["--model-base-path", "missing"]),
        ("recordings", ["--version", "9"]),
        ("recordings", ["--format", "xml"]),
        ("recordings", ["second"]),
        ("recordings", ["--", "--runner=DataflowRunner"]),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    recordings, base, tmp_path, capsys, monkeypatch, folder, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "recordings").symlink_to(recordings)
    ended = ser(capsys, "batch", folder, "--out", "out", "--model-base-path", base, *words)
    assert ended.code == ExitCode.REFUSED, ended.text
    assert "Traceback" not in ended.text
    assert not (tmp_path / "out").exists()


def test_a_bucket_is_scored_into_a_bucket(recordings, base, storage, capsys):
    storage.upload(recordings / "calls", "gs://data/recordings/calls")
    storage.write_bytes("gs://data/recordings/text.wav", b"no sound")
    storage.upload(base, "gs://models/ser")
    words = ["gs://data/recordings", "--out", "gs://data/out", "--model-base-path", "gs://models/ser"]
    ended = ser(capsys, "batch", *words, "--recordings-per-file", "8")
    assert ended.code == ExitCode.PARTLY, ended.text
    files = [address for address in storage.addresses("gs://data/out/results") if address.endswith(".parquet")]
    names = [
        row["file"] for file in files for row in parquet.read_table(io.BytesIO(storage.read_bytes(file))).to_pylist()
    ]
    expected = storage.addresses("gs://data/recordings/calls")
    assert collections.Counter(names) == collections.Counter(expected)
    (error,) = storage.read_text("gs://data/out/errors/000002.jsonl").splitlines()
    assert json.loads(error)["error"] == AudioCode.UNREADABLE

    generations = {file: storage.read_bytes(file) for file in files}
    assert ser(capsys, "batch", *words, "--recordings-per-file", "8")[0] == ExitCode.PARTLY
    assert {file: storage.read_bytes(file) for file in files} == generations
