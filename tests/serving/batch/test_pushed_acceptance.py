"""``ser accept model``: a pushed model on recordings of speakers that it did not train on."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile

from cli.exits import ExitCode
from modules.data.labels import EMOTIONS
from modules.evaluation.acceptance import conditions, measure
from modules.export.contract import EXTRA_ASSETS, PROTOCOL_FILE
from modules.reporting.summary import Protocol
from pipeline import pushed_acceptance
from serving.batch.in_process import InProcess
from serving.batch.plan import find_model
from serving.client import Client
from tests.commands import ser

SPEAKERS = [f"ravdess-{actor:02}" for actor in range(1, 13)]
SPLITS = {"train": tuple(SPEAKERS[:4]), "eval": (SPEAKERS[4],), "test": tuple(SPEAKERS[5:8])}
CODES = {"01": "neutral", "03": "happy", "04": "sad", "05": "angry"}


@pytest.fixture(scope="module")
def data(tmp_path_factory, speechlike):
    """Four recordings of each of twelve actors, with the names of RAVDESS."""
    folder = tmp_path_factory.mktemp("acceptance") / "ravdess"
    for actor in range(1, 13):
        (folder / f"Actor_{actor:02}").mkdir(parents=True)
        for number, code in enumerate(CODES):
            path = folder / f"Actor_{actor:02}" / f"03-01-{code}-01-01-01-{actor:02}.wav"
            soundfile.write(path, speechlike(1.5, seed=10 * actor + number), 48_000)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory, push):
    folder = tmp_path_factory.mktemp("pushed")
    push(folder, 3)
    protocol = Protocol(kind="speaker", speakers=SPLITS).hashed()
    (folder / "3" / EXTRA_ASSETS / PROTOCOL_FILE).write_text(protocol.model_dump_json())
    return folder


@pytest.mark.parametrize(
    ("speakers", "tested", "sentence"),
    [
        ("unseen", SPEAKERS[5:], "did not train on them"),
        ("test", SPEAKERS[5:8], "did not train on them"),
        ("all", SPEAKERS, "trained on 5 of them"),
    ],
)
def test_speakers_are_chosen_by_the_splits_of_the_version(base, data, speakers, tested, sentence):
    chosen = pushed_acceptance.recordings_of(find_model(str(base)), str(data), speakers=speakers)
    assert sorted({clip.speaker for clip in chosen.clips}) == tested
    assert len(chosen.clips) == 4 * len(tested)
    assert sentence in chosen.sentence


def test_version_without_splits_is_tested_on_all_speakers_only(tmp_path, push, data):
    push(tmp_path, 1)
    model = find_model(str(tmp_path))
    with pytest.raises(pushed_acceptance.NothingToTest, match="--speakers all"):
        pushed_acceptance.recordings_of(model, str(data), speakers="unseen")
    chosen = pushed_acceptance.recordings_of(model, str(data), speakers="all")
    assert "may have trained on them" in chosen.sentence


def test_folder_of_training_speakers_is_refused(base, data, capsys):
    code, out, err = ser(capsys, "accept", "model", "--data", data / "Actor_01", "--model-base-path", base)
    assert (code, out) == (ExitCode.REFUSED, "")
    assert "--speakers all" in err


def test_folder_without_an_emotion_of_the_model_is_refused(base, tmp_path):
    with pytest.raises(pushed_acceptance.NothingToTest, match="no recordings with an emotion of the model"):
        pushed_acceptance.recordings_of(find_model(str(base)), str(tmp_path), speakers="all")


def test_checks_are_those_of_the_answers(base, data, capsys):
    code, out, err = ser(
        capsys, "accept", "model", "--data", data, "--model-base-path", base, "--test", "correctness", "--json"
    )
    result = json.loads(out)
    assert "28 recordings of 7 speakers; the model did not train on them." in err
    assert code == (ExitCode.DIFFERENT if any(not each["passed"] for each in result["checks"]) else ExitCode.DONE)
    with Client(InProcess(find_model(str(base)))) as client:
        clips = pushed_acceptance.recordings_of(find_model(str(base)), str(data), speakers="unseen").clips
        named = [client.predict(data / clip.path).probabilities for clip in clips]
    right = [max(each, key=each.get) == clip.emotion for each, clip in zip(named, clips, strict=True)]
    recalls = [
        np.mean([ok for ok, clip in zip(right, clips, strict=True) if clip.emotion == emotion])
        for emotion in CODES.values()
    ]
    values = {check["name"]: check["value"] for check in result["checks"]}
    assert values["UAR"] == pytest.approx(np.mean(recalls))
    assert result["emotions"] == list(EMOTIONS)


def test_tables_name_tests_failed_checks_and_skipped_tests(base, data, capsys):
    words = (
        "accept",
        "model",
        "--data",
        data,
        "--model-base-path",
        base,
        "--test",
        "correctness",
        "--test",
        "fairness",
    )
    code, out, _ = ser(capsys, *words, "--emotions", "angry,happy,neutral,sad")
    assert code == ExitCode.DIFFERENT
    assert "28 clips of 7 speakers: angry, happy, neutral, sad" in out
    assert "correctness_classification" in out
    assert "Not tested: fairness_sex: groups of fewer than 5 speakers are left out: " in out
    assert "checks passed." in out.splitlines()[-1]


def test_robustness_is_that_of_changed_recordings(base, data, monkeypatch):
    chosen = ("gain", "room: lecture, meeting or office", "babble, 20 dB")
    monkeypatch.setattr(measure, "CONDITIONS", [each for each in conditions.CONDITIONS if each.name in chosen])
    model = find_model(str(base))
    recordings = pushed_acceptance.recordings_of(model, str(data), speakers="test")
    result = pushed_acceptance.accept(model, recordings, kinds=("robustness",))
    assert {check.name.partition(", ")[2] for check in result.checks} == {*chosen}
    assert all(0 <= check.value <= 1 for check in result.checks if check.name.startswith("unchanged"))
    assert result == pushed_acceptance.accept(model, recordings, kinds=("robustness",))


def test_unusable_recordings_are_left_out(base, data, tmp_path):
    shutil.copytree(data / "Actor_12", tmp_path / "Actor_12")
    soundfile.write(tmp_path / "Actor_12" / "03-01-06-01-01-01-12.wav", np.zeros(48_000), 48_000)
    recordings = pushed_acceptance.recordings_of(find_model(str(base)), str(tmp_path), speakers="unseen")
    assert len(recordings.clips) == 4
    assert recordings.sentence.endswith("1 unusable ones are left out.")


def test_change_without_an_answer_names_the_recording(base, data, monkeypatch):
    too_short = dataclasses.replace(
        conditions.CONDITIONS[0],
        needs_voices=False,
        name="too short",
        change=lambda samples, rate_hz, place: (samples[:1], rate_hz),
    )
    monkeypatch.setattr(measure, "CONDITIONS", [too_short])
    model = find_model(str(base))
    recordings = pushed_acceptance.recordings_of(model, str(data / "Actor_12"), speakers="unseen")
    with pytest.raises(pushed_acceptance.Unanswered, match="too short"):
        pushed_acceptance.accept(model, recordings, kinds=("robustness",))
