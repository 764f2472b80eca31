import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from cli.main import main
from components.drift_monitor import sources
from modules.audio.spec import AudioSpec
from modules.data import examples
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS
from tests.original import ORIGINAL_AUDIO

SPEC = ORIGINAL_AUDIO.replace(mel_bands=16, mfcc_coefficients=4)
SPEAKERS, CLIPS_EACH = 6, 21
PERMUTATIONS = "--permutations=100"


def write_examples(
    folder: Path, *, seed: int, shift: float = 0.0, spec: AudioSpec = SPEC, rate_hz: int = 48_000
) -> str:
    rng = np.random.default_rng(seed)
    split = folder / "Split-train"
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
        for number in range(SPEAKERS * CLIPS_EACH):
            example = examples.make_example(
                Clip(
                    path=f"{number}.wav",
                    corpus="toy",
                    emotion=EMOTIONS[number % len(EMOTIONS)],
                    speaker=f"toy-{number // CLIPS_EACH}",
                ),
                emotion_id=number % len(EMOTIONS),
                features=rng.normal(loc=shift, size=spec.feature_shape).astype(np.float32),
                valid_frames=spec.window_frames,
                augmentation="plain",
                duration_sec=2.5,
                window_sec=0.0,
                speech=1.0,
                native_sample_rate_hz=rate_hz,
                spec=spec,
            )
            writer.write(example.SerializeToString())
    (folder / sources.SUMMARY_FILE).write_text(json.dumps({"audio_spec": spec.model_dump()}))
    return str(folder)


def write_requests(folder: Path, *, seed: int, valid_frames: int = SPEC.window_frames) -> str:
    rng = np.random.default_rng(seed)
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "requests-1.tfrecord")) as writer:
        for _ in range(SPEAKERS * CLIPS_EACH):
            entry = prediction_log_pb2.PredictionLog()
            inputs = entry.predict_log.request.inputs
            features = rng.normal(size=(1, *SPEC.feature_shape)).astype(np.float32)
            inputs[examples.FEATURES].CopyFrom(tf.make_tensor_proto(features))
            inputs[examples.VALID_FRAMES].CopyFrom(tf.make_tensor_proto(np.array([valid_frames])))
            writer.write(entry.SerializeToString())
    return str(folder)


def write_recordings(folder: Path, *, gain: float = 1.0, seed: int = 0) -> str:
    """Write noise of eight actors with names as in RAVDESS; actors differ in level."""
    for actor in range(1, 9):
        for repetition in range(1, 4):
            rng = np.random.default_rng([seed, actor, repetition])
            samples = gain * 0.02 * actor * rng.normal(scale=0.5, size=8000)
            path = folder / f"Actor_{actor:02d}" / f"03-01-01-01-01-{repetition:02d}-{actor:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, 16_000, subtype="FLOAT")
    return str(folder)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> str:
    return write_examples(tmp_path_factory.mktemp("reference") / "examples", seed=0)


def ser(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["drift", *arguments])
    return stopped.value.code


def test_no_drift_exits_with_0(reference, tmp_path, capsys):
    assert ser(reference, write_examples(tmp_path / "new", seed=2), PERMUTATIONS) == 0
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("No drift: ")
    assert "126 clips of 6 speakers against 126 clips of 6 speakers, 6 of them in both" in second
    assert not any("most drifted" in line for line in rest)


def test_drift_exits_with_3_and_names_features(reference, tmp_path, capsys):
    assert ser(reference, write_examples(tmp_path / "new", seed=1, shift=1.0), PERMUTATIONS) == 3
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "Drifted."
    assert "34 of 34 features" in printed.splitlines()[1]
    assert "most drifted" in printed
    assert "!" in printed
    assert re.search(r"mel_000 \(\d+ Hz\)", printed)


def test_json_has_the_same_result(reference, tmp_path, capsys):
    assert ser(reference, write_examples(tmp_path / "new", seed=1, shift=1.0), PERMUTATIONS, "--json") == 3
    content = json.loads(capsys.readouterr().out)
    assert content["drifted"]
    assert len(content["features"]) == 34
    assert content["settings"]["permutations"] == 100


def test_a_schema_violation_alone_is_drift(reference, tmp_path, capsys):
    current = write_examples(tmp_path / "new", seed=2, rate_hz=8_000)
    assert ser(reference, current, PERMUTATIONS) == 3
    assert "native_sample_rate_hz has a Jensen-Shannon divergence of 1.00" in capsys.readouterr().out
    assert ser(reference, current, PERMUTATIONS, "--json") == 3
    content = json.loads(capsys.readouterr().out)
    assert content["drifted"]
    assert content["reasons"][0].startswith("native_sample_rate_hz ")
    assert not any(feature["ks"]["value"] > feature["ks"]["threshold"] for feature in content["features"])
    assert {each["feature"] for each in content["comparators"]} == {"native_sample_rate_hz", "duration_sec"}


@pytest.mark.parametrize(("change", "status"), [({}, 0), ({"valid_frames": 20}, 3)])
def test_requests_are_compared_by_the_skew_comparators(reference, tmp_path, capsys, change, status):
    requests = write_requests(tmp_path / "log", seed=2, **change)
    for order in ((reference, requests), (requests, reference)):
        assert ser(*order, PERMUTATIONS) == status
        assert ("skew comparator" in capsys.readouterr().out) == bool(status)


def test_requests_that_break_the_schema_are_reported(reference, tmp_path, capsys):
    requests = write_requests(tmp_path / "log", seed=2, valid_frames=0)
    assert ser(reference, requests, PERMUTATIONS) == 3
    assert "valid_frames: " in capsys.readouterr().out


def test_folders_of_recordings_are_compared(tmp_path, capsys):
    reference = write_recordings(tmp_path / "reference")
    assert ser(reference, write_recordings(tmp_path / "same", seed=1), PERMUTATIONS) == 0
    capsys.readouterr()
    assert ser(reference, write_recordings(tmp_path / "louder", seed=1, gain=2.0), PERMUTATIONS, "--json") == 3
    mean_ks = json.loads(capsys.readouterr().out)["mean_ks"]
    assert mean_ks["value"] > mean_ks["threshold"]


def test_incomparable_samples_exit_with_1_and_one_line(reference, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    other = write_examples(tmp_path / "other", seed=1, spec=SPEC.replace(n_fft=1024))
    for current in (str(tmp_path / "missing"), str(tmp_path / "empty"), other):
        assert ser(reference, current, PERMUTATIONS) == 2
        message = capsys.readouterr().err.strip().splitlines()
        assert current in message[-1]
    assert ser(reference, reference, "--permutations=3") == 2
    assert "permutations is 3" in capsys.readouterr().err


def test_wrong_usage_exits_with_2(reference):
    assert ser(reference) == 2
