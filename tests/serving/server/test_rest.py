"""The server through TF Serving's REST interface."""

import asyncio
import base64
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from serving.server.metrics import Metrics
from serving.server.options import METRICS_PATH
from serving.server.rest import make_app


@pytest.fixture(scope="module")
def http(shared_server):
    with httpx.Client(base_url=shared_server.rest_url, timeout=30) as http:
        yield http


@pytest.fixture
def audio(wav_bytes):
    return {"b64": base64.b64encode(wav_bytes).decode()}


def test_rows_and_columns_hold_the_same_prediction(http, audio):
    rows = http.post("/v1/models/ser:predict", json={"instances": [{"audio": audio}, {"audio": audio}]})
    columns = http.post("/v1/models/ser:predict", json={"inputs": {"audio": [audio, audio]}})
    unnamed = http.post("/v1/models/ser:predict", json={"inputs": [audio, audio]})
    predictions = rows.json()["predictions"]
    assert [set(prediction) for prediction in predictions] == [
        {"probabilities", "emotion", "confidence", "min_confidence", "labels", "error", "speech"}
    ] * 2
    outputs = columns.json()["outputs"]
    assert unnamed.json()["outputs"].keys() == outputs.keys()
    assert outputs["emotion"] == [prediction["emotion"] for prediction in predictions]
    np.testing.assert_allclose(outputs["probabilities"], [row["probabilities"] for row in predictions], atol=1e-6)


def test_other_signatures(http):
    item = {"features": [0.0] * 270, "valid_frames": 100, "speech": 1.0}
    body = {"signature_name": "features", "instances": [item, item | {"speech": 0.2}]}
    rows = http.post("/v1/models/ser:predict", json=body).json()["predictions"]
    assert [row["speech"] for row in rows] == [1.0, pytest.approx(0.2)]
    assert rows[0]["emotion"] in rows[0]["labels"]
    assert rows[1]["emotion"] == "no_speech"
    assert sum(rows[0]["probabilities"]) == pytest.approx(1)


@pytest.mark.parametrize("path", ["ser", "ser/versions/3"])
def test_status_and_metadata(http, path):
    status = http.get(f"/v1/models/{path}").json()
    assert status == {
        "model_version_status": [
            {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    metadata = http.get(f"/v1/models/{path}/metadata").json()
    assert metadata["model_spec"] == {"name": "ser", "signature_name": "", "version": "3"}
    assert "timeline" in metadata["metadata"]["signature_def"]["signature_def"]


def test_bad_audio_has_an_error_in_the_answer(http, audio):
    rows = http.post("/v1/models/ser:predict", json={"instances": ["not sound", audio]}).json()["predictions"]
    assert rows[0]["error"].startswith("AUDIO_UNREADABLE: ")
    assert (rows[0]["emotion"], rows[0]["probabilities"]) == ("", [0] * 7)
    assert rows[1]["error"] == ""
    assert sum(rows[1]["probabilities"]) == pytest.approx(1)


def test_a_body_beyond_the_size_limit(http):
    answer = http.post("/v1/models/ser:predict", content=b"x" * (33 << 20))
    assert answer.status_code == 429
    assert str(32 << 20) in answer.json()["error"]


def test_metrics_have_tf_servings_names_and_count(http, shared_server, audio):
    def count(status):
        text = shared_server.metrics()
        line = f':tensorflow:serving:request_count{{model_name="ser",status="{status}"}} '
        return sum(float(row[len(line) :]) for row in text.splitlines() if row.startswith(line))

    before = count("OK"), count("INVALID_ARGUMENT")
    http.post("/v1/models/ser:predict", json={"instances": [audio]})
    http.post("/v1/models/ser:predict", json={"instances": [3]})
    assert (count("OK"), count("INVALID_ARGUMENT")) == (before[0] + 1, before[1] + 1)
    text = shared_server.metrics()
    for name in ("request_latency_bucket", "runtime_latency_sum", "batching_session:queuing_latency_count"):
        assert f":tensorflow:serving:{name}{{" in text
    assert ":tensorflow:cc:saved_model:load_latency{" in text


def test_metrics_are_at_the_configured_path():
    handler = SimpleNamespace(metrics=Metrics())

    async def get(path, metrics_path):
        app = make_app(handler, metrics_path=metrics_path, max_request_bytes=1)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            return await http.get(path)

    assert ":tensorflow:serving:request_count" in asyncio.run(get("/numbers", "/numbers")).text
    assert asyncio.run(get(METRICS_PATH, "/numbers")).status_code == 404
    assert asyncio.run(get(METRICS_PATH, None)).status_code == 404


def test_unknown_model_names_make_no_metrics(http, shared_server):
    http.post("/v1/models/made-up:predict", json={"instances": ["x"]})
    text = shared_server.metrics()
    assert "made-up" not in text
    assert 'model_name="unknown",status="NOT_FOUND"' in text
