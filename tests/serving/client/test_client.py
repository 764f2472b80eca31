"""The client against a running server."""

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
import sys
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
import soundfile

from modules.audio.decoding import DEFAULT_LIMITS
from modules.data.labels import EMOTIONS
from modules.export.contract import NO_SPEECH
from serving.client import (
    AddressError,
    AsyncClient,
    AudioError,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    RequestFailed,
    ServerUnreachable,
    UnexpectedAnswer,
)
from serving.client.recordings import to_wav
from serving.client.segments import segments_of, whole
from serving.client.transport import grpc_direct
from serving.wire import predict_pb2 as wire
from tests.paths import RAVDESS_RATE_HZ

RATE_HZ = 48_000


@contextlib.contextmanager
def strange_server(predict, port=0):
    """Run a gRPC server with the given Predict method, and yield its address."""
    method = grpc.unary_unary_rpc_method_handler(
        predict, wire.PredictRequest.FromString, wire.PredictResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": method})
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([handler])
    bound_port = server.add_insecure_port(f"localhost:{port}")
    server.start()
    yield f"localhost:{bound_port}"
    server.stop(None).wait()


@contextlib.contextmanager
def lossy_address(server):
    """Yield an address that closes the first connection and relays all others to the server."""
    lost, relays = [], []

    async def relay(reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connect(reader, writer):
        if not lost:
            lost.append(writer)
            writer.close()
            return
        onward = await asyncio.open_connection("localhost", server.server.port)
        relays.extend([asyncio.create_task(relay(reader, onward[1])), asyncio.create_task(relay(onward[0], writer))])

    async def listen():
        return await asyncio.start_server(connect, "localhost", 0, family=socket.AF_INET)

    async def stop(listening):
        listening.close()
        await asyncio.gather(*relays)

    listening = asyncio.run_coroutine_threadsafe(listen(), server.loop).result(10)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", lost
    finally:
        asyncio.run_coroutine_threadsafe(stop(listening), server.loop).result(10)


def happy_answer():
    item, only_label = [{"size": 1}], [{"size": 1}, {"size": 1}]
    happy = {"dtype": wire.DT_STRING, "string_val": [b"happy"]}
    outputs = {
        "error": happy | {"string_val": [b""], "tensor_shape": {"dim": item}},
        "emotion": happy | {"tensor_shape": {"dim": item}},
        "labels": happy | {"tensor_shape": {"dim": only_label}},
        "probabilities": {"dtype": wire.DT_FLOAT, "float_val": [1], "tensor_shape": {"dim": only_label}},
    }
    return wire.PredictResponse(outputs=outputs)


def lengthen_retry_delays(monkeypatch):
    """Give a slow machine time to start a server before the last retry."""
    options = dict(grpc_direct._OPTIONS)
    config = json.loads(options["grpc.service_config"])
    config["methodConfig"][0]["retryPolicy"]["initialBackoff"] = "1s"
    options["grpc.service_config"] = json.dumps(config)
    monkeypatch.setattr(grpc_direct, "_OPTIONS", list(options.items()))


@pytest.fixture
def client(shared_server):
    with Client(shared_server.address, timeout_sec=60) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
def predict_at(request, server_loop, wav_bytes):
    """Function that sends one request to an address, with either client."""

    async def predict_async(address):
        async with AsyncClient(address) as client:
            return await client.predict(wav_bytes)

    def predict(address):
        if request.param == "async":
            return asyncio.run_coroutine_threadsafe(predict_async(address), server_loop).result(60)
        with Client(address) as client:
            return client.predict(wav_bytes)

    return predict


def test_a_prediction_names_every_emotion_and_the_version(client, speechlike):
    prediction = client.predict((speechlike(), RATE_HZ))
    assert list(prediction.probabilities) == list(EMOTIONS)
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.emotion == NO_SPEECH
    assert prediction.speech < DEFAULT_LIMITS.min_speech
    assert prediction.model_version == 3


def test_speech_has_its_most_probable_emotion(client, ravdess):
    prediction = client.predict(sorted(ravdess.glob("Actor_01/*.flac"))[5])
    assert prediction.emotion == max(prediction.probabilities, key=prediction.probabilities.get)
    assert DEFAULT_LIMITS.min_speech <= prediction.speech <= 1


def test_files_bytes_and_arrays_give_the_same_prediction(client, speechlike, wav_bytes, tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes)
    samples, rate_hz = soundfile.read(tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.flac", samples, rate_hz)
    ways = [tmp_path / "a.wav", str(tmp_path / "a.flac"), wav_bytes, (samples, rate_hz)]
    first, *others = (client.predict(way) for way in ways)
    assert all(other == first for other in others)


def test_a_batch_is_answered_in_order(client, speechlike):
    recordings = [(speechlike(1.0, seed=seed), RATE_HZ) for seed in range(20)]
    together = client.predict_batch(recordings)
    alone = [client.predict(recording) for recording in recordings]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-5)
    assert len({prediction.probabilities["sad"] for prediction in together}) == 20


@pytest.mark.parametrize("duration_sec", [0.5, 2.5, 30.0, 31.2, 75.3])
def test_a_timeline_in_chunks_is_that_of_the_whole(client, shared_server, speechlike, duration_sec, monkeypatch):
    recording = (speechlike(duration_sec, rate_hz=8_000), 8_000)
    whole_sec = 60.0
    chunked = list(client.timeline(recording))
    monkeypatch.setattr("serving.client.parts.CHUNK_SEC", whole_sec if duration_sec < whole_sec else 55.0)
    whole = list(client.timeline(recording))
    assert chunked[0].start_sec == 0
    assert chunked[-1].end_sec == pytest.approx(duration_sec, abs=1e-3)
    assert [segment.start_sec for segment in chunked] == pytest.approx(
        [segment.start_sec for segment in whole], abs=1e-3
    )
    for one, other in zip(chunked, whole, strict=True):
        np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=2e-3)


LIMITS = ["seconds", "bytes"]


@pytest.fixture(params=LIMITS)
def limited(request, client, monkeypatch):
    """The client, with a limit of five seconds or as many bytes for a request."""
    if request.param == "seconds":
        monkeypatch.setattr("serving.client.parts.LONGEST_WHOLE_SEC", 5.0)
    else:
        monkeypatch.setattr(client._transport, "max_request_bytes", 5 * 2 * 8_000, raising=False)
    return client


def test_a_recording_beyond_the_limits_has_the_mean_of_its_timeline(limited, speechlike):
    short, long = ((speechlike(seconds, rate_hz=8_000), 8_000) for seconds in (2.0, 17.3))
    answers = limited.predict_each([short, long, b"not sound", long, short])
    expected = whole(list(limited.timeline(long)))
    assert answers[1].probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    assert answers[1].emotion == expected.emotion
    assert answers[3] == answers[1]
    assert answers[4].probabilities == pytest.approx(answers[0].probabilities, abs=1e-5)
    assert isinstance(answers[2], AudioError)


def test_an_open_file_beyond_the_limits_is_read_once(limited, speechlike, tmp_path):
    soundfile.write(tmp_path / "long.wav", speechlike(17.3, rate_hz=8_000), 8_000)
    with subprocess.Popen(["cat", str(tmp_path / "long.wav")], stdout=subprocess.PIPE) as pipe:
        assert limited.predict(pipe.stdout) == limited.predict(tmp_path / "long.wav")


def test_segments_are_the_windows_that_agree(client, ravdess):
    clips = sorted(ravdess.glob("Actor_0[12]/*.flac"))[::5][:6]
    joined = np.concatenate([soundfile.read(clip, dtype="float32")[0] for clip in clips])
    recording = (joined, RAVDESS_RATE_HZ)
    windows, segments = list(client.timeline(recording)), list(client.segments(recording))
    assert segments == list(segments_of(windows))
    assert segments[0].start_sec == 0
    assert segments[-1].end_sec == windows[-1].end_sec
    for one, following in itertools.pairwise(segments):
        assert one.end_sec == following.start_sec
        assert one.emotion != following.emotion


def test_a_channel_is_answered_alone(client, speechlike):
    left, right = speechlike(seed=1), speechlike(seed=2)
    stereo = (np.stack([left, right], axis=1), RATE_HZ)
    for channel, alone in enumerate((left, right), 1):
        expected = client.predict((alone, RATE_HZ))
        assert client.predict(stereo, channel=channel) == expected
        assert next(client.timeline(stereo, channel=channel)).probabilities == pytest.approx(
            next(client.timeline((alone, RATE_HZ))).probabilities
        )
    with pytest.raises(AudioError, match="channel 3 of 2"):
        client.predict(stereo, channel=3)


def test_a_timeline_of_a_recording_that_is_too_short_is_an_error(client, speechlike):
    with pytest.raises(AudioError, match="AUDIO_TOO_SHORT"):
        list(client.timeline((speechlike(0.05, rate_hz=8_000), 8_000)))


@pytest.mark.parametrize("form", ["address", "rest_url"])
def test_a_timeline_of_bad_samples_is_an_error(shared_server, speechlike, form):
    samples = speechlike(1.0)
    samples[7] = np.nan
    with Client(getattr(shared_server, form)) as client, pytest.raises(AudioError) as caught:
        list(client.timeline((samples, RATE_HZ)))
    assert caught.value.code == "AUDIO_NOT_FINITE"


def test_rest_gives_the_same_prediction(client, shared_server, wav_bytes):
    with Client(shared_server.rest_url, timeout_sec=60) as rest:
        prediction = rest.predict(wav_bytes)
        segments = list(rest.timeline(wav_bytes))
    assert prediction.probabilities == pytest.approx(client.predict(wav_bytes).probabilities)
    assert prediction.model_version is None
    assert [segment.start_sec for segment in segments] == [0, 0.5]


@pytest.mark.parametrize("form", ["address", "rest_url"])
def test_the_async_client_gives_the_same_answers(client, shared_server, speechlike, form):
    recordings = [(speechlike(seed=seed), RATE_HZ) for seed in range(3)]

    async def predict_all():
        async with AsyncClient(getattr(shared_server, form)) as asynchronous:
            at_once = await asyncio.gather(*map(asynchronous.predict, recordings))
            windows = [window async for window in asynchronous.timeline(recordings[0])]
            segments = [segment async for segment in asynchronous.segments(recordings[0])]
            return at_once, windows, segments

    at_once, windows, segments = asyncio.run_coroutine_threadsafe(predict_all(), shared_server.loop).result(60)
    for one, other in zip(at_once, client.predict_batch(recordings), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert [window.start_sec for window in windows] == [0, 0.5]
    assert [segment.emotion for segment in segments] == [it.emotion for it in client.segments(recordings[0])]


def test_the_async_client_sends_a_long_recording_in_parts(client, shared_server, speechlike, monkeypatch):
    monkeypatch.setattr("serving.client.parts.LONGEST_WHOLE_SEC", 5.0)
    long = (speechlike(17.3, rate_hz=8_000), 8_000)

    async def predict():
        async with AsyncClient(shared_server.address, timeout_sec=60) as asynchronous:
            return await asynchronous.predict_each([long, b"not sound"])

    answer, error = asyncio.run_coroutine_threadsafe(predict(), shared_server.loop).result(60)
    assert answer.probabilities == pytest.approx(client.predict(long).probabilities, abs=1e-5)
    assert isinstance(error, AudioError)


@pytest.mark.parametrize("form", ["address", "rest_url"])
def test_errors_of_the_server_have_their_classes(shared_server, wav_bytes, speechlike, form):
    address = getattr(shared_server, form)
    with Client(address, model="other") as client, pytest.raises(ModelNotFound, match="'other'"):
        client.predict(wav_bytes)
    with Client(address, version=99) as client, pytest.raises(ModelNotFound, match="99"):
        client.predict(wav_bytes)
    with Client(address, label="canary") as client, pytest.raises(InvalidRequest, match="'canary'"):
        client.predict(wav_bytes)
    with Client(address) as client, pytest.raises(InvalidRequest, match=r"item 0: .* 61\.0 s .* 60 s"):
        client.predict((speechlike(61.0, rate_hz=8_000), 8_000))
    with shared_server.held(), Client(address, timeout_sec=0.1) as client, pytest.raises(DeadlineExceeded):
        client.predict(wav_bytes)


@pytest.mark.parametrize("form", ["address", "rest_url"])
def test_a_bad_recording_fails_alone_in_its_batch(shared_server, server_loop, wav_bytes, speechlike, form):
    brief = (speechlike(0.05), RATE_HZ)  # refused by the model; the others by the client
    recordings = [wav_bytes, brief, b"not sound", wav_bytes, "nowhere.wav"]
    codes = [None, "AUDIO_TOO_SHORT", "AUDIO_UNREADABLE", None, "AUDIO_UNREADABLE"]

    async def predict_each(address):
        async with AsyncClient(address) as client:
            return await client.predict_each(recordings)

    address = getattr(shared_server, form)
    with Client(address) as client:
        answers = client.predict_each(recordings)
        assert client.predict_each([]) == []
        with pytest.raises(AudioError, match=r"samples of shape \(2400,\): AUDIO_TOO_SHORT"):
            client.predict_batch(recordings)
        alone = client.predict(wav_bytes)
    for each in (answers, asyncio.run_coroutine_threadsafe(predict_each(address), server_loop).result(60)):
        assert [getattr(answer, "code", None) for answer in each] == codes
        for answer in (each[0], each[3]):
            assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


@pytest.mark.parametrize("form", ["localhost:{}", "http://localhost:{}"])
def test_an_address_without_a_server_is_unreachable(wav_bytes, unused_tcp_port, form):
    with Client(form.format(unused_tcp_port)) as client, pytest.raises(ServerUnreachable):
        client.predict(wav_bytes)


@pytest.mark.parametrize("address", ["", "localhost", "ftp://localhost:21", "vertex://project/region", "a b:1/x"])
def test_addresses_of_an_unknown_form_are_refused(address):
    with pytest.raises(AddressError, match=f"'{address}'"):
        Client(address)


def test_version_and_label_exclude_each_other():
    with pytest.raises(ValueError, match=r"version and label .*\[1, 'stable'\]"):
        Client(version=1, label="stable")


def test_another_kind_of_server_is_detected(wav_bytes):
    with (
        strange_server(lambda request, context: wire.PredictResponse()) as address,
        Client(address) as client,
        pytest.raises(UnexpectedAnswer, match="'labels'"),
    ):
        client.predict(wav_bytes)


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status != grpc.StatusCode.OK])
def test_only_unavailable_is_retried(predict_at, status):
    received = []

    def refuse(request, context):
        received.append(request)
        context.abort(status, "not now")

    with strange_server(refuse) as address, pytest.raises(RequestFailed, match="not now") as caught:
        predict_at(address)
    assert caught.value.status == status
    assert len(received) == (4 if status == grpc.StatusCode.UNAVAILABLE else 1)


def test_a_request_waits_for_a_server_that_starts_late(unused_tcp_port, wav_bytes, monkeypatch):
    lengthen_retry_delays(monkeypatch)
    refused = threading.Event()
    with Client(f"localhost:{unused_tcp_port}", timeout_sec=60) as client, futures.ThreadPoolExecutor(1) as pool:
        client._transport._channel.subscribe(
            lambda state: state == grpc.ChannelConnectivity.TRANSIENT_FAILURE and refused.set()
        )
        prediction = pool.submit(client.predict, wav_bytes)
        assert refused.wait(60), "the connection was not refused although no server runs"
        assert not prediction.done(), "the client did not retry"
        with strange_server(lambda request, context: happy_answer(), unused_tcp_port):
            assert prediction.result(60).emotion == "happy"


def test_a_lost_connection_is_replaced(shared_server, wav_bytes):
    with lossy_address(shared_server) as (address, lost), Client(address) as client:
        assert client.predict(wav_bytes).model_version == 3
    assert len(lost) == 1


def test_neither_tensorflow_nor_tfx_is_imported(shared_server, wav_bytes, tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes)
    code = f"""
import sys
from serving.client import Client
with Client({shared_server.address!r}) as client:
    client.predict({str(tmp_path / "a.wav")!r})
print({{"tensorflow", "tfx", "keras", "librosa", "google.cloud.aiplatform", "httpx"}} & set(sys.modules))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "set()\n"


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_audio_and_its_features_give_the_same_prediction(client, shared_server, speechlike, rate_hz, channels):
    samples = 0.005 * speechlike(rate_hz=rate_hz, seed=2)  # as quiet as RAVDESS's pauses: rounding twice would show
    if channels == 2:
        samples = np.stack([samples, 0.005 * speechlike(rate_hz=rate_hz, seed=3)], axis=1)
    prediction = client.predict((samples, rate_hz))
    expected = shared_server.predict_from_features_of(to_wav((samples, rate_hz)))
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-4)


@pytest.mark.parametrize("step", [60, pytest.param(1, marks=pytest.mark.slow)])
def test_real_recordings_agree_with_their_features(client, shared_server, ravdess, step):
    files = sorted(ravdess.glob("Actor_*/*.flac"))[::step]
    assert len(files) == 1440 // step
    for file, prediction in zip(files, client.predict_batch(files), strict=True):
        expected = shared_server.predict_from_features_of(file.read_bytes())
        np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-4)


@pytest.mark.parametrize("form", ["address", "rest_url"])
def test_a_server_on_this_machine_is_reached_without_the_proxy(shared_server, wav_bytes, monkeypatch, form):
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with Client(getattr(shared_server, form)) as client:
        assert client.predict(wav_bytes).emotion


@pytest.mark.parametrize("address", ["server.invalid:8500", "http://server.invalid:8501"])
def test_the_message_about_another_machine_names_the_proxy(wav_bytes, monkeypatch, address):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with Client(address, timeout_sec=2) as client, pytest.raises(RequestFailed, match=r"127\.0\.0\.1:9 of http_proxy"):
        client.predict(wav_bytes)
