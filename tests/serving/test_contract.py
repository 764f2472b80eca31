"""A model with limits of its own: every caller uses those of its contract instead of the defaults."""

import io
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from cli.main import main
from components.serving_validator.requests import validation_requests
from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits
from modules.export.contract import load_contract
from serving.client import AudioError, Client
from serving.client.segments import whole

LIMITS = AudioLimits(min_duration_sec=0.05, silence_peak=1e-5, max_duration_sec=5.0)
RATE_HZ = 48_000
ACTORS, CLIPS_EACH = 8, 3


@pytest.fixture(scope="module")
def model_dir(export_family, tmp_path_factory):
    return export_family("original_cnn", tmp_path_factory.mktemp("limits"), LIMITS)


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def server(model_dir, log_dir, run_server, tmp_path_factory):
    base = tmp_path_factory.mktemp("serving")
    (base / "1").symlink_to(model_dir, target_is_directory=True)
    running = run_server(model_base_path=base, request_log_dir=log_dir, request_log_rate=1.0)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def brief(speechlike):
    """A recording that is too short by the default limits."""
    return speechlike(0.08), RATE_HZ


def logged(folder, *, probabilities):
    """Wait for log entries with these probabilities, and return them."""
    deadline = time.monotonic() + 60
    while True:
        files = sorted(map(str, folder.glob("requests-*.tfrecord")))
        records = tf.data.TFRecordDataset(files).as_numpy_iterator() if files else ()
        entries = [prediction_log_pb2.PredictionLog.FromString(record).predict_log for record in records]
        matching = [
            entry
            for entry in entries
            if np.allclose(tf.make_ndarray(entry.response.outputs["probabilities"])[0], probabilities, atol=1e-6)
        ]
        if matching:
            return matching
        assert time.monotonic() < deadline, "the request was not logged"
        time.sleep(0.05)


def wav(samples, rate_hz):
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="FLOAT")
    return file.getvalue()


def write_quiet_corpus(folder, seed):
    """Write quiet noise with names as in RAVDESS."""
    for actor in range(1, ACTORS + 1):
        for repetition in range(1, CLIPS_EACH + 1):
            rng = np.random.default_rng([seed, actor, repetition])
            samples = rng.uniform(-1, 1, 16_000) * 0.8 * DEFAULT_LIMITS.silence_peak
            path = folder / f"Actor_{actor:02d}" / f"03-01-01-01-01-{repetition:02d}-{actor:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wav(samples, 16_000))
    return str(folder)


def ser_drift(*words):
    with pytest.raises(SystemExit) as stopped:
        main(["drift", *words])
    return stopped.value.code


def code_of(client, recording):
    with pytest.raises(AudioError) as caught:
        client.predict(recording)
    return caught.value.code


def test_the_contract_has_the_limits(model_dir, exported_model):
    assert load_contract(model_dir).limits == LIMITS
    assert load_contract(exported_model).limits == DEFAULT_LIMITS


def test_the_client_leaves_the_limits_to_the_model(server, shared_server, brief, speechlike):
    long = (speechlike(6.0, rate_hz=8_000), 8_000)
    with Client(server.address) as client, Client(shared_server.address, timeout_sec=60) as usual:
        assert client.predict(brief).emotion
        assert code_of(usual, brief) == "AUDIO_TOO_SHORT"
        in_parts, expected = client.predict(long), whole(list(usual.timeline(long)))
    assert in_parts.probabilities == pytest.approx(expected.probabilities, abs=2e-3)


def test_a_timeline_is_sent_in_parts_within_the_limits(server, shared_server, speechlike):
    recording = (speechlike(20.0, rate_hz=8_000), 8_000)
    with Client(server.address) as client, Client(shared_server.address, timeout_sec=60) as usual:
        segments, expected = list(client.timeline(recording)), list(usual.timeline(recording))
    assert [segment.start_sec for segment in segments] == pytest.approx([it.start_sec for it in expected], abs=1e-3)
    for one, other in zip(segments, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=2e-3)


def test_the_request_log_has_the_models_answers(server, log_dir, brief):
    with Client(server.address) as client:
        answered = client.predict(brief)
        client.predict_each([(np.full(100, 0.1, np.float32), RATE_HZ)])  # even shorter; not to be logged
    entries = logged(log_dir, probabilities=list(answered.probabilities.values()))
    for entry in entries:
        inputs = {name: tf.make_ndarray(value) for name, value in entry.request.inputs.items()}
        again = server.predict_from_features(**inputs)
        np.testing.assert_allclose(again, list(answered.probabilities.values()), atol=1e-4)


def test_the_validator_sends_recordings_within_the_limits(model_dir, exported_model, brief, tmp_path):
    (tmp_path / "brief.wav").write_bytes(wav(*brief))
    (tmp_path / "ingest.json").write_text(json.dumps({"root": str(tmp_path)}))
    (tmp_path / "clips.jsonl").write_text(json.dumps({"path": "brief.wav", "split": "test", "examples": 1}))

    def recordings(model):
        requests = validation_requests(str(model), str(tmp_path), "test", SimpleNamespace(serialized=[]))
        return len(requests[-1].inputs["audio"].string_val) - 1  # without the unusable one

    assert recordings(model_dir) == 1
    assert recordings(exported_model) == 0


def test_drift_reads_recordings_within_the_limits(model_dir, exported_model, tmp_path, capsys):
    reference, current = (write_quiet_corpus(tmp_path / str(seed), seed) for seed in (1, 2))
    assert ser_drift(reference, current, f"--model={model_dir}") in (0, 3)
    assert f"{ACTORS * CLIPS_EACH} clips of {ACTORS} speakers" in capsys.readouterr().out
    assert ser_drift(reference, current, f"--model={exported_model}") == 2
    assert str(reference) in capsys.readouterr().err
