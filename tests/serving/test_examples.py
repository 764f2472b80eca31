import json
import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.fixture
def recording(wav_bytes, tmp_path):
    file = tmp_path / "recording.wav"
    file.write_bytes(wav_bytes)
    return file


@pytest.fixture
def emotion(shared_server, recording) -> str:
    """The answer of the project's client."""
    from serving.client import Client

    with Client(shared_server.address, timeout_sec=60) as client:
        return client.predict(recording).emotion


def output_of(*command) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_client(shared_server, recording, emotion, tmp_path):
    (tmp_path / "words.wav").write_text("words")
    example = (sys.executable, "-m", "examples.predict", "--address", shared_server.address)
    good, bad = output_of(*example, recording, tmp_path / "words.wav").splitlines()
    assert good.startswith(f"{recording}: {emotion}")
    assert "words.wav" in bad


def test_curl(shared_server, recording, emotion):
    answer = json.loads(output_of("examples/predict.sh", recording, shared_server.rest_url))
    assert answer["predictions"][0]["emotion"] == emotion


def test_stub_of_tf_serving(shared_server, recording, emotion):
    printed = output_of(sys.executable, "examples/predict_stub.py", recording, shared_server.address)
    assert printed == f"{recording}: {emotion}\n"
