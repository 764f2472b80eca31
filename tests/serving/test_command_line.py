"""``ser serve`` and ``ser predict`` as processes."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import soundfile
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.exits import ExitCode
from modules.data.labels import EMOTIONS
from serving.client import Client, ServerUnreachable
from serving.client.predictions import ModelChoice
from serving.client.recordings import to_wav
from serving.client.transport.grpc_direct import PREDICT_METHOD
from serving.wire import predict_pb2 as wire

ROOT = Path(__file__).parents[2]
SER = [sys.executable, "-c", "from cli.main import main; main()"]


def ser(*arguments):
    return subprocess.run([*SER, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)


class Process:
    """``ser serve`` on free ports, or on given ones."""

    def __init__(self, base, port=0, rest_api_port=0):
        ports = ["--port", str(port), "--rest-api-port", str(rest_api_port)]
        batching = ["--batching-parameters-file", str(ROOT / "serving" / "config" / "batching.config")]
        command = [*SER, "serve", "--model-base-path", str(base), "--drain-sec", "60", *ports, *batching]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self.log = ""
        for line in self._process.stderr:
            self.log += line
            if ports := re.search(r"gRPC on port (\d+), REST and metrics on port (\d+)", line):
                self.port, self.rest_api_port = map(int, ports.groups())
                return
        raise AssertionError(self.log)

    def send(self, number):
        self._process.send_signal(number)

    def wait(self):
        self.log += self._process.communicate(timeout=120)[1]
        return self._process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def sound_file(tmp_path, speechlike):
    file = tmp_path / "speech [red].flac"  # nothing in a name is markup
    soundfile.write(file, speechlike(), 48_000)
    return file


def runs(server):
    """Return the number of batches so far."""
    text = (
        httpx.get(f"http://127.0.0.1:{server.rest_api_port}/monitoring/prometheus/metrics", timeout=60)
        .raise_for_status()
        .text
    )
    return sum(map(float, re.findall(r"processed_batch_size_count\{.*\} (\S+)", text)))


def paused_with_a_request(server, channel, recording):
    """Stop the server while it works on a request; with enough recordings that timing does not matter."""
    predict = channel.unary_unary(PREDICT_METHOD, wire.PredictRequest.SerializeToString)
    for items in (1, 2, 4, 8, 16):
        before = runs(server)
        in_flight = predict.future(ModelChoice(name="ser").request("timeline", [recording] * items), timeout=120)
        while runs(server) == before and not in_flight.done():
            pass
        server.send(signal.SIGSTOP)
        if not in_flight.done():
            return in_flight
        server.send(signal.SIGCONT)
    raise AssertionError("every request was answered before the server could be stopped")


def test_sigterm_drains_and_clients_reconnect(push, tmp_path, speechlike, wav_bytes):
    push(tmp_path / "serving", 1)
    address = "127.0.0.1:{}"
    with Process(tmp_path / "serving") as server, Client(address.format(server.port), timeout_sec=30) as client:
        assert client.predict(wav_bytes).model_version == 1
        recording = to_wav((speechlike(110.0, rate_hz=8_000), 8_000))
        with grpc.insecure_channel(address.format(server.port)) as channel:
            health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(health).status == health_pb2.HealthCheckResponse.SERVING
            in_flight = paused_with_a_request(server, channel, recording)
            server.send(signal.SIGTERM)
            server.send(signal.SIGCONT)
            assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
            health.cancel()
            assert in_flight.code() == grpc.StatusCode.OK
        assert server.wait() == 0, server.log
        assert "draining" in server.log
        with pytest.raises(ServerUnreachable):
            client.predict(wav_bytes)
        with Process(tmp_path / "serving", server.port, server.rest_api_port) as again:
            assert again.port == server.port
            assert client.predict(wav_bytes).model_version == 1
            refused = ser(
                "serve", "--model-base-path", tmp_path / "serving", "--port", server.port, "--rest-api-port", 0
            )
            assert refused.returncode == ExitCode.REFUSED
            assert f"--port {server.port}" in refused.stderr
            assert len(refused.stderr.splitlines()) == 1  # TensorFlow writes nothing


def test_serve_without_a_model_fails_with_the_reason(tmp_path):
    finished = ser("serve", "--model-base-path", tmp_path / "missing")
    assert finished.returncode == ExitCode.REFUSED
    assert str(tmp_path / "missing") in finished.stderr
    command = [SER[0], "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {SER[2]}", "serve"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "output/serving" in finished.stderr
    finished = ser("serve", "--model-base-path", tmp_path, "--port", 0, "--rest-api-port", 0)
    assert finished.returncode == ExitCode.FAILED
    (line,) = finished.stderr.splitlines()  # TensorFlow writes nothing
    assert str(tmp_path) in line


def test_predict_prints_the_emotion_and_a_bar_per_emotion(shared_server, sound_file, ravdess):
    sound_file.write_bytes(sorted(ravdess.glob("Actor_01/*.flac"))[5].read_bytes())
    finished = ser("predict", sound_file, "--address", shared_server.address)
    assert finished.returncode == 0, finished.stderr
    heading = finished.stdout.splitlines()[0]
    rows = re.findall(r"^ ([a-z]+) +\S* +([\d.]+)%", finished.stdout, re.MULTILINE)
    assert len(rows) == 7
    shares = [float(share) for _, share in rows]
    assert shares == sorted(shares, reverse=True)
    assert heading == f"{sound_file}: {rows[0][0]}, model version 3"


def test_predict_prints_no_bars_without_speech(shared_server, sound_file):
    finished = ser("predict", sound_file, "--address", shared_server.address)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"{sound_file}: no_speech, model version 3\n"


def test_predict_prints_a_timeline(shared_server, sound_file):
    finished = ser("predict", sound_file, "--timeline", "--address", shared_server.rest_url)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"^ +0\.0 +2\.5 ", finished.stdout, re.MULTILINE)
    assert re.search(r"^ +0\.5 +3\.0 ", finished.stdout, re.MULTILINE)


def test_predict_prints_a_timeline_as_json(shared_server, sound_file):
    timeline = ser("predict", sound_file, "--json", "--timeline", "--address", shared_server.address).stdout
    assert [segment["start_sec"] for segment in json.loads(timeline)["segments"]] == [0, 0.5]


def test_predict_prints_segments(shared_server, sound_file):
    finished = ser("predict", sound_file, "--segments", "--address", shared_server.address)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"^ +0\.0 +3\.0  no_speech ", finished.stdout, re.MULTILINE)
    finished = ser("predict", sound_file, "--segments", "--timeline", "--address", shared_server.address)
    assert finished.returncode == ExitCode.REFUSED


def test_predict_uses_the_named_channel(shared_server, sound_file, speechlike, tmp_path):
    cancelling = speechlike()[:, np.newaxis] * np.array([[1, -1]], np.float32)
    soundfile.write(tmp_path / "stereo.wav", cancelling, 48_000)
    refused = ser("predict", tmp_path / "stereo.wav", "--address", shared_server.address)
    assert refused.returncode == ExitCode.REFUSED
    assert "AUDIO_CHANNELS_CANCEL" in refused.stderr
    chosen = ser("predict", tmp_path / "stereo.wav", "--channel", "1", "--address", shared_server.address)
    assert chosen.returncode == 0, chosen.stderr


@pytest.fixture
def several(sound_file, tmp_path, speechlike):
    """A usable file, an unreadable one, one that is too long for the server, and another usable one."""
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "long.wav", speechlike(70.0, rate_hz=8_000), 8_000)
    soundfile.write(tmp_path / "last.wav", speechlike(seed=1), 48_000)
    return [sound_file, tmp_path / "bad.wav", tmp_path / "long.wav", tmp_path / "last.wav"]


def test_each_recording_has_its_answer_or_its_error_in_json(shared_server, several):
    finished = ser("predict", *several, "--json", "--address", shared_server.address)
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [line["file"] for line in lines] == list(map(str, several))
    first, bad, long, last = lines
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert first["model_version"] == last["model_version"] == 3
    assert bad["error"]["code"] == "AUDIO_UNREADABLE"
    assert long["error"]["code"] == "serving.invalid_request"
    assert finished.returncode == ExitCode.PARTLY
    for file in several[1:3]:
        assert any(line.startswith(f"ser: {file}: ") for line in finished.stderr.splitlines())
    assert finished.stderr.splitlines()[-1] == "4 recordings: 2 with an answer, 2 with an error"


def test_each_recording_has_its_answer_or_its_error_in_csv(shared_server, several, tmp_path):
    finished = ser("predict", tmp_path, "--csv", "--address", shared_server.address)
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(finished.stdout))}
    assert list(rows) == sorted(map(str, several))
    answered, bad = rows[str(several[0])], rows[str(several[1])]
    assert sum(float(answered[emotion]) for emotion in EMOTIONS) == pytest.approx(1, abs=1e-5)
    assert (answered["model_version"], answered["error"]) == ("3", "")
    assert (bad["emotion"], bad["error"]) == ("", "AUDIO_UNREADABLE")
    assert finished.returncode == ExitCode.PARTLY


def test_predict_reads_standard_input(shared_server, sound_file):
    command = [*SER, "predict", "-", "--json", "--address", shared_server.address]
    with sound_file.open("rb") as recording:
        finished = subprocess.run(command, cwd=ROOT, stdin=recording, capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout)["file"] == "-"


def test_files_are_looked_at_before_a_model_is_loaded(push, tmp_path):
    push(tmp_path / "serving", 1)
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    finished = ser("predict", tmp_path / "nope.wav", tmp_path / "bad.wav", "--model-base-path", tmp_path / "serving")
    assert finished.returncode == ExitCode.REFUSED
    assert "Loading" not in finished.stderr
    assert finished.stderr.splitlines()[-1] == "2 recordings: 0 with an answer, 2 with an error"


def test_without_a_server_the_last_pushed_model_answers(push, sound_file, tmp_path):
    (tmp_path / "output").mkdir()
    push(tmp_path / "output" / "serving", 6)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cli import predict; predict._DEFAULT_PORT = 1; "
    command = [sys.executable, "-c", f"{code}from cli.main import main; main()", "predict", sound_file, "--json"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["model_version"] == 6
    assert "version 6" in finished.stderr
    assert "00:00" not in finished.stderr  # TensorFlow's own lines


def test_predict_without_a_server_names_the_next_command(sound_file, unused_tcp_port):
    finished = ser("predict", sound_file, "--address", f"localhost:{unused_tcp_port}")
    assert finished.returncode == ExitCode.FAILED
    assert f"localhost:{unused_tcp_port}" in finished.stderr
    assert "`ser serve`" in finished.stderr
    refused = ser("predict", sound_file, "--address", "nowhere")
    assert refused.returncode == ExitCode.REFUSED
    assert "'nowhere'" in refused.stderr
