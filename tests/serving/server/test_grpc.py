"""The server through TF Serving's own stubs."""

import re

import grpc
import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import strategies
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


@pytest.fixture(scope="module")
def channel(shared_server):
    with shared_server.channel() as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request(signature="serving_default", *, model="ser", **inputs):
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return made


def refusal(stub, message, **options):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(message, timeout=60, **options)
    return caught.value.code().name, caught.value.details()


def features_request(valid_frames):
    frames, speech = np.ones(valid_frames, np.int64), np.ones(1, np.float32)
    return request("features", features=np.zeros((1, 270), np.float32), valid_frames=frames, speech=speech)


def malformed(kind):
    message = request(audio=[b"RIFF"])
    tensor = message.inputs["audio"]
    if kind == "huge":
        message = features_request(1)
        message.inputs["features"].tensor_shape.dim[0].size = 10**12
    elif kind == "negative":
        tensor.tensor_shape.dim[0].size = -1
    elif kind == "unknown rank":
        tensor.tensor_shape.unknown_rank = True
    elif kind == "count":
        tensor.string_val.append(b"one more")
    elif kind == "type":
        tensor.dtype = 999
    elif kind == "content":
        message = features_request(1)
        message.inputs["features"].tensor_content = b"123"
    return message


def test_predict_returns_outputs_version_and_signature(stub, wav_bytes):
    answer = stub.Predict(request("", audio=[wav_bytes, wav_bytes]))
    assert answer.model_spec.version.value == 3
    assert answer.model_spec.signature_name == "serving_default"
    probabilities = tf.make_ndarray(answer.outputs["probabilities"])
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert tf.make_ndarray(answer.outputs["emotion"]).tolist() == [b"no_speech"] * 2
    assert tf.make_ndarray(answer.outputs["speech"]).shape == (2,)


def test_every_signature_answers(stub, wav_bytes, speechlike, audio_spec):
    features, frames = np.zeros((1, *audio_spec.feature_shape), np.float32), np.array([100], np.int64)
    example = tf.train.Example()
    example.features.feature["features"].float_list.value.extend(features.ravel())
    example.features.feature["valid_frames"].int64_list.value.append(100)
    inputs = {
        "serving_default": {"audio": [wav_bytes]},
        "waveform": {"waveform": [speechlike().tobytes()], "sample_rate_hz": np.array([48_000], np.int32)},
        "features": {"features": features, "valid_frames": frames, "speech": np.ones(1, np.float32)},
        "examples": {"examples": [example.SerializeToString()]},
        "timeline": {"audio": [wav_bytes]},
    }
    answers = {name: stub.Predict(request(name, **values)) for name, values in inputs.items()}
    probabilities = {name: tf.make_ndarray(answer.outputs["probabilities"]) for name, answer in answers.items()}
    np.testing.assert_allclose(probabilities["waveform"], probabilities["serving_default"], atol=1e-4)
    np.testing.assert_allclose(probabilities["examples"], probabilities["features"], atol=1e-6)
    assert probabilities["timeline"].shape == (1, 2, 7)
    assert {name for name, answer in answers.items() if "speech" in answer.outputs} == set(answers)


def test_output_filter(stub, wav_bytes):
    message = request(audio=[wav_bytes])
    message.output_filter.append("emotion")
    assert list(stub.Predict(message).outputs) == ["emotion"]
    message.output_filter.append("mood")
    code, details = refusal(stub, message)
    assert code == "INVALID_ARGUMENT"
    assert "['mood']" in details
    assert "['confidence', 'emotion', 'error', 'labels', 'min_confidence', 'probabilities', 'speech']" in details


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda wav: b"", "AUDIO_EMPTY"),
        (lambda wav: wav[:5_000], "AUDIO_TRUNCATED"),
        (lambda wav: b"not sound", "AUDIO_UNREADABLE"),
    ],
)
def test_bad_audio_has_an_error_in_the_answer(stub, wav_bytes, change, code):
    outputs = stub.Predict(request(audio=[wav_bytes, change(wav_bytes)])).outputs
    first, second = tf.make_ndarray(outputs["error"])
    assert first == b""
    assert second.decode().startswith(f"{code}: ")
    np.testing.assert_allclose(tf.make_ndarray(outputs["probabilities"]).sum(axis=1), [1, 0], atol=1e-5)


@pytest.mark.parametrize("kind", ["huge", "negative", "unknown rank", "count", "type", "content"])
def test_malformed_tensors_are_refused(stub, kind):
    code, details = refusal(stub, malformed(kind))
    assert code == "INVALID_ARGUMENT"
    assert "shape" in details


@pytest.mark.parametrize(
    ("message", "code", "pattern"),
    [
        (request(model="unknown"), "NOT_FOUND", "'unknown'.* ser"),
        (request("sing"), "INVALID_ARGUMENT", "'sing'"),
        (request(), "INVALID_ARGUMENT", r"\[\].*'serving_default'.*\['audio'\]"),
        (request(audio=[1.0]), "INVALID_ARGUMENT", "'audio'.* float32 "),
        (request(audio=[[b"a"]]), "INVALID_ARGUMENT", r"\[1, 1\].* string .*\(None,\)"),
        (request(audio=np.zeros(0, object)), "INVALID_ARGUMENT", "{'audio': 0}"),
        (features_request(2), "INVALID_ARGUMENT", "{'features': 1, 'speech': 1, 'valid_frames': 2}"),
    ],
)
def test_requests_that_do_not_fit_the_model_are_refused(stub, message, code, pattern):
    status, details = refusal(stub, message)
    assert status == code
    assert re.search(pattern, details), details


def test_a_request_beyond_the_size_limit(shared_server, stub):
    code, details = refusal(stub, request(audio=[b"x" * (33 << 20)]))
    assert code == "RESOURCE_EXHAUSTED"
    assert str(32 << 20) in details


@hypothesis.settings(max_examples=150, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(data=strategies.data())
def test_the_server_survives_arbitrary_bytes(stub, wav_bytes, data):
    head = data.draw(strategies.integers(0, 60), label="bytes kept of a WAV file")
    rest = data.draw(strategies.binary(max_size=200), label="bytes that follow")
    answer = stub.Predict.future(request(audio=[wav_bytes[:head] + rest]), timeout=60)
    assert answer.code() == grpc.StatusCode.OK, answer.details()
    assert stub.Predict(request(audio=[wav_bytes]), timeout=60).outputs


@hypothesis.settings(max_examples=50, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(body=strategies.binary(max_size=300))
def test_the_server_survives_arbitrary_messages(channel, stub, wav_bytes, body):
    raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError):
        raw(body, timeout=60)
    assert stub.Predict(request(audio=[wav_bytes]), timeout=60).outputs


def test_the_metadata_are_the_signatures(stub):
    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    message.model_spec.name = "ser"
    answer = stub.GetModelMetadata(message)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(definitions)
    assert set(definitions.signature_def) == {"serving_default", "waveform", "features", "examples", "timeline"}
    assert definitions.signature_def["features"].inputs["features"].tensor_shape.dim[1].size == 270
    message.metadata_field[:] = ["weights"]
    with pytest.raises(grpc.RpcError, match="signature_def"):
        stub.GetModelMetadata(message)


def test_apis_that_the_model_does_not_have_are_unimplemented(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Classify(classification_pb2.ClassificationRequest())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_model_status(channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.name = "ser"
    (status,) = stub.GetModelStatus(message).model_version_status
    assert (status.version, status.state) == (3, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    message.model_spec.version.value = 4
    with pytest.raises(grpc.RpcError, match="version 4"):
        stub.GetModelStatus(message)


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"])
def test_health(channel, service):
    message = health_pb2.HealthCheckRequest(service=service)
    assert health_pb2_grpc.HealthStub(channel).Check(message).status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_and_describes_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.serving.ModelService"),
    ]
    listed, *described = stub.ServerReflectionInfo(iter(requests))
    names = {service.name for service in listed.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} < names
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in described)
