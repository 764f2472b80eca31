import dataclasses
import json
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

import schema
from cli.main import main
from components.drift_monitor import executor, sources
from components.drift_monitor.settings import MonitorSettings
from modules.audio.spec import AudioSpec, AudioSpecMismatch
from modules.data import examples
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS
from modules.export.contract import AUDIO_SPEC_FILE, EXAMPLES_FILE, EXTRA_ASSETS
from tests.original import ORIGINAL_AUDIO, ORIGINAL_INGEST

SPEC = ORIGINAL_AUDIO.replace(mel_bands=16, mfcc_coefficients=4)
SETTINGS = MonitorSettings(permutations=100)
SPEAKERS, CLIPS_EACH = 6, 42


def clips(*, seed: int, shift: float = 0.0) -> list[tuple[str, str, np.ndarray]]:
    """Speaker, emotion and features of clips by the same speakers, whatever the seed."""
    voices = np.random.default_rng(0).normal(size=(SPEAKERS, *SPEC.feature_shape))
    rng, made = np.random.default_rng([1, seed]), []
    for number in range(SPEAKERS * CLIPS_EACH):
        speaker, emotion = number // CLIPS_EACH, number % len(EMOTIONS)
        values = voices[speaker] + rng.normal(size=SPEC.feature_shape) + shift
        values[emotion] += 3
        made.append((f"toy-{speaker}", EMOTIONS[emotion], values))
    return made


def summary(
    spans: list[str],
    *,
    train: tuple[str, ...] = tuple(f"toy-{number}" for number in range(SPEAKERS)),
    test: tuple[str, ...] = ("toy-test",),
    spec: AudioSpec = SPEC,
) -> dict:
    speakers = {"train": list(train), "eval": ["toy-eval"], "test": list(test)}
    return {
        "protocol": "speaker-disjoint",
        "seed": 0,
        "audio_spec": spec.model_dump(),
        "spans": dict.fromkeys(spans, SPEAKERS * CLIPS_EACH),
        "splits": {split: {"speakers": names} for split, names in speakers.items()},
    }


def make_example(
    clip: Clip, values: np.ndarray, augmentation: str, spec: AudioSpec, duration_sec: float = 2.5
) -> bytes:
    return examples.make_example(
        clip,
        emotion_id=EMOTIONS.index(clip.emotion),
        features=values.astype(np.float32),
        valid_frames=spec.window_frames - 9,
        augmentation=augmentation,
        duration_sec=duration_sec,
        window_sec=0.0,
        speech=1.0,
        native_sample_rate_hz=48_000,
        spec=spec,
    ).SerializeToString()


def write_examples(
    folder: Path,
    *,
    names: dict[str, str] | None = None,
    earlier: dict[str, float] | None = None,
    slower: float = 1.0,
    **how: float,
) -> Path:
    """Write examples as an AudioExampleGen does, each clip with an augmented copy that is far from it.

    Args:
        earlier: Clips of an earlier span of the same window.
    """
    split = folder / "Split-train"
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
        for below, made in (("span-1/", clips(**earlier) if earlier else []), ("span-2/", clips(**how))):
            for number, (speaker, emotion, values) in enumerate(made):
                clip = Clip(path=f"{below}{number}.wav", corpus="toy", emotion=emotion, speaker=speaker)
                clip = dataclasses.replace(clip, emotion=(names or {}).get(emotion, emotion))
                for augmentation, offset in (("plain", 0.0), ("noise", 100.0)):
                    duration_sec = slower * (2.5 + 0.01 * (number % 100))
                    writer.write(make_example(clip, values + offset, augmentation, SPEC, duration_sec))
    (folder / sources.SUMMARY_FILE).write_text(json.dumps(summary(["span-1", "span-2"] if earlier else [])))
    return folder


def write_request_log(folder: Path, *, valid_frames: int = SPEC.window_frames - 9, **how: float) -> Path:
    """Write a log as the embedded server does: one ``PredictionLog`` for a request of several clips."""
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "requests-1.tfrecord")) as writer:
        made = clips(**how)
        for start in range(0, len(made), 2):
            entry = prediction_log_pb2.PredictionLog()
            inputs = entry.predict_log.request.inputs
            values = np.stack([values for _, _, values in made[start : start + 2]]).astype(np.float32)
            inputs[examples.FEATURES].CopyFrom(tf.make_tensor_proto(values))
            inputs[examples.VALID_FRAMES].CopyFrom(tf.make_tensor_proto(np.full(len(values), valid_frames, np.int64)))
            writer.write(entry.SerializeToString())
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    return write_examples(tmp_path_factory.mktemp("reference") / "examples", seed=0)


@pytest.fixture
def monitor(reference, tmp_path):
    """Run the executor on a folder of examples and return the comparisons in ``drift.json``."""
    schema_artifact = standard_artifacts.Schema()
    schema_artifact.uri = str(tmp_path / "schema")
    io_utils.write_pbtxt_file(str(tmp_path / "schema" / "schema.pbtxt"), schema.load(SPEC))

    def run(
        current: Path, settings: MonitorSettings = SETTINGS, *, first_run: bool = False, models: Path | None = None
    ) -> list[dict]:
        inputs = {executor.EXAMPLES_KEY: [artifact(current)], executor.SCHEMA_KEY: [schema_artifact]}
        inputs[executor.REFERENCE_KEY] = [] if first_run else [artifact(reference)]
        properties = {executor.SETTINGS_KEY: settings.to_json(), executor.MODELS_KEY: models and str(models)}
        output = standard_artifacts.ExampleAnomalies()
        output.uri = str(tmp_path / "drift")
        executor.Executor().Do(inputs, {executor.DRIFT_KEY: [output]}, properties)
        return json.loads((tmp_path / "drift" / executor.DRIFT_FILE).read_text())["comparisons"]

    def artifact(folder: Path) -> standard_artifacts.Examples:
        made = standard_artifacts.Examples()
        made.uri = str(folder)
        made.split_names = artifact_utils.encode_split_names(["train"])
        return made

    return run


def test_similar_data_do_not_drift(monitor, tmp_path):
    (comparison,) = monitor(write_examples(tmp_path / "new", seed=1), SETTINGS.replace(stop_on="any"))
    report = comparison["report"]
    assert not report["drifted"]
    assert report["reference_clips"] == report["current_clips"] == SPEAKERS * CLIPS_EACH, "no augmented copy counts"
    assert report["shared_speakers"] == SPEAKERS


def test_drift_stops_the_run_only_if_configured(monitor, tmp_path):
    current = write_examples(tmp_path / "new", seed=1, shift=1.0)
    (comparison,) = monitor(current)
    assert comparison["report"]["drifted"]
    assert not comparison["report"]["labels_suspect"]
    with pytest.raises(executor.DriftAlarm):
        monitor(current, SETTINGS.replace(stop_on="any"))


def test_a_broken_label_mapping_stops_the_run(monitor, tmp_path):
    swapped = {"angry": "sad", "sad": "happy", "happy": "angry"}
    current = write_examples(tmp_path / "new", seed=1, names=swapped)
    with pytest.raises(executor.DriftAlarm) as alarm:
        monitor(current)
    assert "angry" in str(alarm.value)
    written = json.loads((Path(alarm.value.folder) / executor.DRIFT_FILE).read_text())
    assert written["comparisons"][0]["report"]["labels_suspect"]
    assert alarm.value.folder in str(alarm.value)
    (comparison,) = monitor(current, SETTINGS.replace(stop_on="never"))
    assert comparison["report"]["labels_suspect"]


def test_of_a_window_the_newest_span_is_compared(monitor, tmp_path):
    """Half of the clips are the reference's own: they would dilute what is new."""
    current = write_examples(tmp_path / "new", seed=1, shift=0.25, earlier={"seed": 0})
    (comparison,) = monitor(current)
    assert comparison["what"] == "new data of span-2"
    assert comparison["report"]["current_clips"] == SPEAKERS * CLIPS_EACH
    assert comparison["report"]["drifted"]


def test_the_comparators_of_the_schema_raise_the_alarm(monitor, tmp_path):
    current = write_examples(tmp_path / "new", seed=1, slower=1.5)
    (comparison,) = monitor(current)
    (duration, rate) = sorted(comparison["report"]["comparators"], key=lambda each: each["feature"])
    assert duration["feature"] == "duration_sec"
    assert duration["jensen_shannon"] > duration["threshold"]
    assert (rate["feature"], rate["jensen_shannon"]) == ("native_sample_rate_hz", 0)
    assert comparison["report"]["drifted"]
    (reason,) = comparison["report"]["reasons"]
    assert reason.startswith("duration_sec ")
    with pytest.raises(executor.DriftAlarm, match="duration_sec"):
        monitor(current, SETTINGS.replace(stop_on="any"))


@pytest.mark.parametrize("change", [{}, {"slower": 1.5}, {"shift": 1.0}], ids=["same", "slower", "shifted"])
def test_command_and_monitor_agree(monitor, reference, tmp_path, capsys, change):
    current = write_examples(tmp_path / "new", seed=1, **change)
    (comparison,) = monitor(current)
    with pytest.raises(SystemExit) as ended:
        main(["drift", str(reference), str(current), "--permutations=100", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert ended.value.code == (3 if change else 0)
    assert printed["drifted"] == bool(change)
    assert {**printed, "settings": None} == {**comparison["report"], "settings": None}


def test_shared_test_speakers_are_a_remark(monitor, tmp_path):
    current = write_examples(tmp_path / "new", seed=1)
    (current / sources.SUMMARY_FILE).write_text(json.dumps(summary([], train=("toy-0",), test=("toy-3", "toy-9"))))
    (comparison,) = monitor(current, SETTINGS.replace(stop_on="any"))
    assert not comparison["report"]["drifted"]
    assert "toy-3" in comparison["report"]["reasons"][0]
    assert "toy-9" not in comparison["report"]["reasons"][0]


def test_training_speakers_of_both_models_cause_no_remark(monitor, tmp_path):
    current = write_examples(tmp_path / "new", seed=1)
    (current / sources.SUMMARY_FILE).write_text(json.dumps(summary([], test=("toy-3",))))
    (comparison,) = monitor(current)
    assert comparison["report"]["reasons"] == []


def write_model(serving: Path, version: int, trained_on: object) -> None:
    """Write what the reference is found by: the files of a pushed version below assets.extra."""
    folder = serving / str(version) / EXTRA_ASSETS
    folder.mkdir(parents=True)
    (folder / AUDIO_SPEC_FILE).write_text(SPEC.to_json())
    if trained_on:
        (folder / EXAMPLES_FILE).write_text(str(trained_on))


def test_the_newest_pushed_model_gives_the_reference(monitor, reference, tmp_path):
    current, serving = write_examples(tmp_path / "new", seed=1, shift=1.0), tmp_path / "serving"
    never = SETTINGS.replace(stop_on="never")
    serving.mkdir()
    (comparison,) = monitor(current, never, first_run=True, models=serving)
    assert comparison["not_compared"] == "No blessed model was trained on other data yet."
    write_model(serving, 1, None)  # pushed before models carried the address
    write_model(serving, 2, reference)
    write_model(serving, 10, current)  # a run without changes
    (comparison,) = monitor(current, never, first_run=True, models=serving)
    assert comparison["reference"] == str(reference)
    assert comparison["report"]["drifted"]
    (comparison,) = monitor(current, never.replace(reference=str(serving / "2")), first_run=True)
    assert comparison["reference"] == str(reference)


def test_deleted_training_examples_are_named(monitor, tmp_path):
    write_model(tmp_path / "serving", 2, tmp_path / "gone")
    (comparison,) = monitor(write_examples(tmp_path / "new", seed=1), first_run=True, models=tmp_path / "serving")
    assert "no longer" in comparison["not_compared"]


def test_the_command_finds_the_reference_of_a_model(reference, tmp_path, capsys):
    current = write_examples(tmp_path / "new", seed=1)
    write_model(tmp_path / "serving", 3, None)
    with pytest.raises(SystemExit) as ended:
        main(["drift", str(tmp_path / "serving"), str(current), "--permutations=100"])
    assert ended.value.code == 2
    assert "push it again" in " ".join(capsys.readouterr().err.split())
    write_model(tmp_path / "serving", 4, reference)
    for models in (tmp_path / "serving", tmp_path / "serving" / "4"):
        with pytest.raises(SystemExit) as ended:
            main(["drift", str(models), str(current), "--permutations=100"])
        assert ended.value.code == 0, capsys.readouterr().err


def test_a_first_run_has_no_reference(monitor, tmp_path):
    (comparison,) = monitor(write_examples(tmp_path / "new", seed=1), first_run=True)
    assert "report" not in comparison
    assert comparison["not_compared"]


def test_too_few_clips_are_not_compared(monitor, tmp_path):
    settings = SETTINGS.replace(min_clips=1000, stop_on="any")
    (comparison,) = monitor(write_examples(tmp_path / "new", seed=1, shift=1.0), settings)
    assert "1000" in comparison["not_compared"]


def test_examples_of_another_audio_spec_are_not_compared(monitor, tmp_path):
    current = write_examples(tmp_path / "new", seed=1)
    (current / sources.SUMMARY_FILE).write_text(json.dumps(summary([], spec=ORIGINAL_AUDIO)))
    assert ORIGINAL_AUDIO.fingerprint in monitor(current)[0]["not_compared"]


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_logged_requests_are_compared_too(monitor, tmp_path, shift):
    log = write_request_log(tmp_path / "log", seed=2, shift=shift)
    current = write_examples(tmp_path / "new", seed=1)
    new_data, requests = monitor(current, SETTINGS.replace(request_log=str(log)))
    assert not new_data["report"]["drifted"]
    assert requests["report"]["drifted"] == bool(shift)
    assert requests["report"]["labels"] is None


def test_requests_are_checked_by_the_serving_environment(monitor, tmp_path):
    log = write_request_log(tmp_path / "log", seed=2, valid_frames=SPEC.window_frames + 1)
    current = write_examples(tmp_path / "new", seed=1)
    _, requests = monitor(current, SETTINGS.replace(request_log=str(log)))
    skew, broken = requests["report"]["reasons"]
    assert skew.startswith("valid_frames ")
    assert broken.startswith("valid_frames: ")
    assert "109" in broken


def test_a_log_of_another_audio_spec_is_refused(tmp_path):
    log = write_request_log(tmp_path / "log", seed=0)
    with pytest.raises(AudioSpecMismatch, match=r"\(34,\).*\(270,\)"):
        sources.read_requests(str(log), spec=ORIGINAL_AUDIO)


def test_log_mel_examples_become_means_over_their_own_frames(tmp_path):
    spec = ORIGINAL_AUDIO.replace(feature_family="logmel", mel_bands=4, mfcc_coefficients=4)
    values = np.full(spec.feature_shape, -100.0)
    values[: spec.window_frames - 9] = [1.0, 2.0, 3.0, 4.0]
    folder = tmp_path / "Split-train"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "data.gz"), "GZIP") as writer:
        clip = Clip(path="0.wav", corpus="toy", emotion="sad", speaker="toy-0")
        writer.write(make_example(clip, values, "plain", spec))
    (tmp_path / sources.SUMMARY_FILE).write_text(json.dumps(summary([], spec=spec)))
    sample = sources.read_clips(str(tmp_path)).sample
    np.testing.assert_allclose(sample.values, [[1, 2, 3, 4]])
    centres_hz = librosa.mel_frequencies(n_mels=6, fmax=11_025)[1:-1]
    assert sample.names == tuple(f"mel_00{band} ({hertz:.0f} Hz)" for band, hertz in enumerate(centres_hz))
    assert sample.speakers == ("toy-0",)
    assert sample.emotions == ("sad",)


def test_recordings_are_read_and_bad_ones_rejected(tmp_path):
    rng = np.random.default_rng(0)
    for emotion in ("01", "05"):
        soundfile.write(tmp_path / f"03-01-{emotion}-01-01-01-07.wav", rng.normal(scale=0.1, size=30_000), 16_000)
    (tmp_path / "03-01-04-01-01-01-07.wav").write_bytes(b"RIFF")
    recordings = sources.read_recordings(str(tmp_path), settings=ORIGINAL_INGEST)
    assert recordings.sample.speakers == ("ravdess-07", "ravdess-07")
    assert recordings.sample.emotions == ("neutral", "angry")
    assert recordings.sample.values.shape == (2, 270)
    described = {name: values.tolist() for name, values in recordings.clips.numbers.items()}
    assert described == {
        "valid_frames": [81, 81],
        "duration_sec": [1.875, 1.875],
        "native_sample_rate_hz": [16_000] * 2,
    }
    assert [file.path for file in recordings.rejected] == ["03-01-04-01-01-01-07.wav"]
    louder = sources.read_recordings(str(tmp_path), settings=ORIGINAL_INGEST, change=lambda samples, rate: samples * 2)
    rms = recordings.sample.names.index("rms")
    np.testing.assert_allclose(louder.sample.values[:, rms], 2 * recordings.sample.values[:, rms], rtol=1e-4)


def test_an_empty_folder_is_unreadable(tmp_path):
    with pytest.raises(sources.UnreadableSample):
        sources.read_recordings(str(tmp_path), settings=ORIGINAL_INGEST)
