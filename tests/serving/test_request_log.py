"""The sample of requests that a server keeps."""

import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.client import Client


def entries(folder):
    files = sorted(map(str, folder.glob("requests-*.tfrecord")))
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator()
    ]


@pytest.fixture
def logging_server(run_server, push, tmp_path):
    push(tmp_path / "serving", 1)
    running = run_server(
        model_base_path=tmp_path / "serving",
        request_log_dir=tmp_path / "log",
        request_log_rate=1.0,
        request_log_max_bytes=64 * 1024,
    )
    yield running
    running.stop()


def test_entries_hold_the_features_and_the_answer_and_files_rotate(logging_server, speechlike, wav_bytes, tmp_path):
    with Client(logging_server.address) as client:
        answered = client.predict(wav_bytes)
        wait_until_written(tmp_path / "log", 1)
        (entry,) = entries(tmp_path / "log")
        for _ in range(60):
            client.predict(wav_bytes)
            time.sleep(0.01)  # what comes faster than it can be written is dropped
        wait_until_written(tmp_path / "log", 20)
        list(client.timeline(wav_bytes))
    request, response = entry.predict_log.request, entry.predict_log.response
    assert request.model_spec.signature_name == "features"
    assert request.model_spec.version.value == 1
    assert time.time() - entry.log_metadata.timestamp_secs < 60
    logged = tf.make_ndarray(response.outputs["probabilities"])[0]
    np.testing.assert_allclose(logged, list(answered.probabilities.values()), atol=1e-6)
    features = tf.make_ndarray(request.inputs["features"])
    again = logging_server.predict_from_features(features, tf.make_ndarray(request.inputs["valid_frames"]))
    np.testing.assert_allclose(again, logged, atol=1e-4)
    files = list((tmp_path / "log").iterdir())
    assert 2 <= len(files) <= 8
    assert sum(file.stat().st_size for file in files) <= 64 * 1024


def wait_until_written(folder, count):
    deadline = time.monotonic() + 30
    while len(entries(folder)) < count:
        assert time.monotonic() < deadline, f"{len(entries(folder))} of {count} entries were written"
        time.sleep(0.05)
