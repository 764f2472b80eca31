"""Log of a sample of the requests."""

import random
import re
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.client import Client
from serving.server import request_log
from serving.server.metrics import Metrics
from serving.server.options import ServerOptions
from serving.server.request_log import RequestLog


def entries(folder):
    files = sorted(map(str, folder.glob("requests-*.tfrecord")))
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator()
    ]


def wait_until_written(server, count):
    line = f':tensorflow:serving:request_log_count{{model_name="ser",status="OK"}} {float(count)}'
    deadline = time.monotonic() + 60
    while line not in server.metrics().splitlines():
        assert time.monotonic() < deadline, f"no {line}"
        time.sleep(0.05)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.01)


def logged_counts(metrics):
    """Return the number of requests by status of the log."""
    text = metrics.text().decode()
    return dict(re.findall(r'request_log_count{model_name="ser",status="(\w+)"} (\S+)', text))


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


NO_ERROR = {"error": np.array([b""], object)}


class HeldBack(dict):
    """Features that block the writer until ``release`` is set."""

    def __init__(self, release, **features):
        super().__init__(features)
        self._release = release

    def items(self):
        self._release.wait()
        return super().items()


def test_entries_hold_features_and_answer_and_files_rotate(logging_server, speechlike, wav_bytes, tmp_path):
    with Client(logging_server.address) as client:
        answered = client.predict(wav_bytes)
        wait_until_written(logging_server, 1)
        (entry,) = entries(tmp_path / "log")
        for _ in range(60):  # the queue holds as many; further ones would be dropped
            client.predict(wav_bytes)
        list(client.timeline(wav_bytes))
    wait_until_written(logging_server, 61)
    request, response = entry.predict_log.request, entry.predict_log.response
    assert request.model_spec.signature_name == "features"
    assert request.model_spec.version.value == 1
    assert time.time() - entry.log_metadata.timestamp_secs < 60
    logged = tf.make_ndarray(response.outputs["probabilities"])[0]
    np.testing.assert_allclose(logged, list(answered.probabilities.values()), atol=1e-6)
    inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
    assert inputs["speech"] == pytest.approx([answered.speech], abs=1e-4)
    again = logging_server.predict_from_features(**inputs)
    np.testing.assert_allclose(again, logged, atol=1e-4)
    files = list((tmp_path / "log").iterdir())
    assert 2 <= len(files) <= 8
    assert sum(file.stat().st_size for file in files) <= 64 * 1024


def test_requests_beyond_the_writers_speed_are_dropped(tmp_path):
    metrics = Metrics()
    log = RequestLog(tmp_path, rate=1.0, max_bytes=1 << 20, metrics=metrics)
    servable = SimpleNamespace(model_name="ser", version=1, path="")
    release = threading.Event()
    inputs = HeldBack(release, features=np.zeros((1, 270), np.float32))
    for _ in range(80):
        log.offer(servable, "features", inputs, NO_ERROR)
    release.set()
    log.close()
    counts = logged_counts(metrics)
    assert float(counts["RESOURCE_EXHAUSTED"]) in (15, 16)  # 64 wait, and the writer may have taken one more
    assert len(entries(tmp_path)) == float(counts["OK"]) == 80 - float(counts["RESOURCE_EXHAUSTED"])


def test_old_entries_are_deleted_while_the_server_is_idle(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log, "_EXPIRY_CHECK_SEC", 0.02)
    now_ns = time.time_ns()
    old, young = (tmp_path / f"requests-{now_ns - age_sec * 10**9}.tfrecord" for age_sec in (5000, 3000))
    for file in (old, young, tmp_path / "requests-of-may.tfrecord"):
        file.write_bytes(b"")
    log = RequestLog(tmp_path, rate=1.0, max_bytes=1 << 20, metrics=Metrics(), max_age_sec=4000)
    servable = SimpleNamespace(model_name="ser", version=1, path="")
    log.offer(servable, "features", {"features": np.zeros((1, 270), np.float32)}, NO_ERROR)
    wait_for(lambda: not old.exists() and len(list(tmp_path.iterdir())) == 3)
    assert young.exists()
    later_ns = now_ns + 5000 * 10**9
    monkeypatch.setattr(request_log.time, "time_ns", lambda: later_ns)
    wait_for(lambda: [file.name for file in tmp_path.iterdir()] == ["requests-of-may.tfrecord"])
    log.offer(servable, "features", {"features": np.ones((1, 270), np.float32)}, NO_ERROR)
    log.close()
    assert (tmp_path / f"requests-{later_ns}.tfrecord").exists()


def test_nothing_is_logged_without_a_folder(tmp_path):
    assert ServerOptions(model_base_path=tmp_path).request_log_dir is None
    metrics = Metrics()
    log = RequestLog(None, rate=1.0, max_bytes=1 << 20, metrics=metrics)
    servable = SimpleNamespace(model_name="ser", version=1, path="")
    log.offer(servable, "features", {"features": np.zeros((1, 270), np.float32)}, NO_ERROR)
    log.close()
    assert "request_log_count{" not in metrics.text().decode()


def test_a_share_of_the_requests_is_a_sample(tmp_path):
    random.seed(0)
    metrics = Metrics()
    log = RequestLog(tmp_path, rate=0.25, max_bytes=1 << 20, metrics=metrics)
    servable = SimpleNamespace(model_name="ser", version=1, path="")
    for number in range(400):
        log.offer(servable, "features", {"features": np.full((1, 270), number, np.float32)}, NO_ERROR)
    log.close()
    counts = logged_counts(metrics)
    assert 75 <= sum(map(float, counts.values())) <= 125  # sampled, written or dropped
    logged = [tf.make_ndarray(entry.predict_log.request.inputs["features"])[0, 0] for entry in entries(tmp_path)]
    assert len(logged) == float(counts["OK"])
    assert logged == sorted(set(logged)), "each once"
