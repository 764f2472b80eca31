"""Batching and full queues of the server."""

import contextlib
import re
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.client.recordings import to_wav

QUEUED_ITEMS = 8
STRICT_VERSION = 1


@pytest.fixture(scope="module")
def server(run_server, push, strict_model, tmp_path_factory):
    """One thread, batches of at most 8 items, and one batch waiting."""
    folder = tmp_path_factory.mktemp("overload")
    push(folder / "serving", 2)
    (folder / "serving" / str(STRICT_VERSION)).symlink_to(strict_model, target_is_directory=True)
    models = folder / "models.config"
    models.write_text(
        f'model_config_list {{ config {{ name: "ser" base_path: "{folder}/serving" model_platform: "tensorflow" '
        "model_version_policy { all {} } } }"
    )
    batching = folder / "batching.config"
    batching.write_text(
        "max_batch_size { value: 8 } max_enqueued_batches { value: 1 } num_batch_threads { value: 1 } "
        "allowed_batch_sizes: 2 allowed_batch_sizes: 8"
    )
    running = run_server(model_config_file=models, batching_parameters_file=batching, max_audio_sec=300)
    yield running
    running.stop()


@pytest.fixture
def predict(server):
    """Function that sends a request without waiting, and returns a future."""
    with server.channel() as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future


@pytest.fixture
def busy(server, predict, wav_bytes):
    """Context in which the only thread is busy, independent of the machine's speed."""

    @contextlib.contextmanager
    def hold():
        release = threading.Event()
        server.scheduler._pool.submit(release.wait)
        running = predict(request("serving_default", wav_bytes))  # occupies the thread
        until(lambda: server.scheduler.free_threads == 0)
        try:
            yield
        finally:
            release.set()
            running.result()

    return hold


def until(holds):
    """Wait until a condition holds."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def request(signature, *wavs):
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = "ser", signature
    made.inputs["audio"].CopyFrom(tf.make_tensor_proto(list(wavs)))
    return made


def strict_request(samples):
    """Return a request for the model that raises for bad samples."""
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.version.value = "ser", STRICT_VERSION
    made.inputs["samples"].CopyFrom(tf.make_tensor_proto([samples], tf.float32))
    return made


def probabilities(answer):
    return tf.make_ndarray(answer.outputs["probabilities"])


def batches_run(server):
    """Return the numbers of batches and of items in them so far."""
    text = server.metrics()
    name = ':tensorflow:serving:batching_session:processed_batch_size_{}{{model_name="ser"}} '
    return [
        next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name.format(part)))
        for part in ("count", "sum")
    ]


def test_waiting_requests_run_as_one_batch(server, predict, busy, speechlike):
    recordings = [to_wav((speechlike(1.0, seed=seed), 48_000)) for seed in range(6)]
    alone = [probabilities(predict(request("serving_default", wav)).result()) for wav in recordings]
    with busy():
        before = batches_run(server)
        together = [predict(request("serving_default", wav)) for wav in recordings]
        until(lambda: server.scheduler.queued_items == 6)
    answers = [probabilities(future.result()) for future in together]
    after = batches_run(server)
    assert (after[0] - before[0], after[1] - before[1]) == (1, 6)
    np.testing.assert_allclose(answers, alone, atol=1e-5)
    assert len({answer.tobytes() for answer in answers}) == 6


def test_a_batch_starts_when_full_or_after_the_timeout(server, predict, wav_bytes, monkeypatch):
    def may_wait(seconds):
        options = server.scheduler._options.replace(timeout_sec=seconds)
        monkeypatch.setattr(server.scheduler, "_options", options)

    message = request("serving_default", wav_bytes)
    before = batches_run(server)
    may_wait(600)
    together = [predict(message) for _ in range(7)]
    until(lambda: server.scheduler.queued_items == 7)
    assert server.scheduler.free_threads == 1
    together.append(predict(message))
    assert all(future.result().outputs for future in together)
    after = batches_run(server)
    assert (after[0] - before[0], after[1] - before[1]) == (1, 8)
    may_wait(0.05)
    assert predict(message).result().outputs


def test_a_bad_item_fails_alone_in_its_batch(server, predict, busy, wav_bytes):
    with busy():
        good = [predict(request("serving_default", wav_bytes)) for _ in range(2)]
        bad = predict(request("serving_default", wav_bytes, b"bad"))
        good.append(predict(request("serving_default", wav_bytes)))
        until(lambda: server.scheduler.queued_items == 5)
    assert all(probabilities(future.result()).any() for future in good)
    first, second = tf.make_ndarray(bad.result().outputs["error"])
    assert first == b""
    assert second.startswith(b"AUDIO_UNREADABLE: ")


def test_requests_of_a_batch_get_one_status(server, predict, busy):
    with busy():
        waiting = [predict(strict_request(values)) for values in ([1, 1], [1, 0], [1, 1])]
        until(lambda: server.scheduler.queued_items == 3)
    assert [future.code() for future in waiting] == [grpc.StatusCode.INVALID_ARGUMENT] * 3


def test_requests_of_different_shapes_fail_together(server, predict, busy):
    with busy():
        waiting = [predict(strict_request([1] * samples)) for samples in (2, 3)]
        until(lambda: server.scheduler.queued_items == 2)
    assert [future.code() for future in waiting] == [grpc.StatusCode.FAILED_PRECONDITION] * 2
    assert predict(strict_request([1, 1, 1])).result().outputs


def test_requests_for_different_signatures_run_apart(server, predict, busy, wav_bytes):
    with busy():
        before = batches_run(server)
        waiting = [predict(request(signature, wav_bytes)) for signature in ("serving_default", "timeline") * 2]
        until(lambda: server.scheduler.queued_items == 4)
    assert all(future.result().outputs for future in waiting)
    assert batches_run(server)[0] == before[0] + 2


def test_a_full_queue_answers_unavailable_and_recovers(predict, busy, wav_bytes):
    with busy():
        futures = [predict(request("serving_default", wav_bytes)) for _ in range(20)]
        until(lambda: sum(future.done() for future in futures) == 20 - QUEUED_ITEMS)
    codes = [future.code() for future in futures]
    assert codes.count(grpc.StatusCode.OK) == QUEUED_ITEMS
    assert codes.count(grpc.StatusCode.UNAVAILABLE) == 20 - QUEUED_ITEMS
    refused = next(future for future in futures if future.code() != grpc.StatusCode.OK)
    assert "(1 batches)" in refused.details()
    assert predict(request("serving_default", wav_bytes)).result().outputs


def test_nothing_is_computed_after_the_deadline(server, predict, busy, wav_bytes):
    with busy():
        before = batches_run(server)
        late = [predict(request("serving_default", wav_bytes), timeout=0.1) for _ in range(QUEUED_ITEMS)]
        assert {future.code() for future in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        until(lambda: server.scheduler.queued_items == 0)  # the server notices a moment after the client
        room = predict(request("serving_default", wav_bytes))
        until(lambda: server.scheduler.queued_items == 1)
    assert room.result().outputs
    assert batches_run(server)[1] == before[1] + 1


def test_nothing_is_computed_for_a_cancelled_request(server, predict, busy, wav_bytes):
    with busy():
        before = batches_run(server)
        given_up = [predict(request("serving_default", wav_bytes)) for _ in range(4)]
        until(lambda: server.scheduler.queued_items == 4)
        for future in given_up:
            future.cancel()
        until(lambda: server.scheduler.queued_items == 0)
    assert predict(request("serving_default", wav_bytes)).result().outputs
    assert batches_run(server)[1] == before[1] + 1


def test_a_request_larger_than_a_batch_is_refused(predict, wav_bytes):
    refused = predict(request("serving_default", *[wav_bytes] * 9))
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert re.search("9 items.* 8$", refused.details())
