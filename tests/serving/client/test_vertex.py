"""The client on a Vertex AI endpoint: the real SDK against a stand-in for Vertex on the loopback interface."""

import datetime
import io

import grpc
import numpy as np
import pytest
import soundfile
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as vertex
from google.oauth2 import credentials

from serving.client import Client, InvalidRequest, Overloaded, RequestFailed, ServerUnreachable
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_endpoints import PROJECT_NUMBER, Cloud

ENDPOINT = f"projects/{PROJECT_NUMBER}/locations/us-central1/endpoints/{{}}"
SHARED, DEDICATED = "1", "2"
CHOSEN_ID = "1000000000000000001"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with FakeVertex(tmp_path_factory.mktemp("vertex"), {}, region="us-central1").in_environment() as fake:
        aiplatform.init(credentials=credentials.Credentials("a token"), api_transport="grpc")
        yield fake


@pytest.fixture
def cloud(served, shared_server) -> Cloud:
    """One model, deployed on a shared endpoint, and on a dedicated one with an id that Vertex chose."""
    model = vertex.Model(
        name="models/ser",
        version_id="1",
        container_spec=vertex.ModelContainerSpec(predict_route="/v1/models/ser:predict"),
    )
    endpoints = [
        vertex.Endpoint(
            name=ENDPOINT.format(endpoint_id),
            deployed_models=[_deployed(deployed_id)],
            traffic_split={deployed_id: 100},
            create_time=datetime.datetime.now(datetime.UTC),
        )
        for endpoint_id, deployed_id in ((SHARED, "3"), (DEDICATED, CHOSEN_ID))
    ]
    endpoints[1].dedicated_endpoint_enabled = True
    endpoints[1].dedicated_endpoint_dns = f"{DEDICATED}.us-central1-1.prediction.vertexai.goog"
    cloud = Cloud(
        models={"models/ser@1": model},
        endpoints={endpoint.name: endpoint for endpoint in endpoints},
        addresses=dict.fromkeys(("3", "4", CHOSEN_ID), shared_server.rest_url),
    )
    served.reset(cloud.services())
    return cloud


def _deployed(deployed_id: str, display_name: str = "3") -> vertex.DeployedModel:
    return vertex.DeployedModel(id=deployed_id, display_name=display_name, model="models/ser", model_version_id="1")


def _wav(size_bytes: int) -> bytes:
    """Return a WAV file of noise of that many bytes."""
    file = io.BytesIO()
    samples = np.random.default_rng(0).normal(scale=0.1, size=size_bytes // 2 - 22)
    soundfile.write(file, samples, 48_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _address(endpoint_id: str) -> str:
    return f"vertex://p/us-central1/{endpoint_id}"


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("endpoint_id", [SHARED, DEDICATED])
def test_an_endpoint_gives_the_answers_of_its_model(shared_server, wav_bytes, endpoint_id):
    with Client(shared_server.address, timeout_sec=60) as direct:
        expected = direct.predict(wav_bytes), list(direct.timeline(wav_bytes))
    with Client(_address(endpoint_id)) as client:
        prediction, segments = client.predict(wav_bytes), list(client.timeline(wav_bytes))
    assert prediction.model_version == 3
    assert [segment.model_version for segment in segments] == [3] * len(expected[1])
    for ours, theirs in zip((prediction, *segments), (expected[0], *expected[1]), strict=True):
        assert ours.emotion == theirs.emotion
        assert ours.probabilities == pytest.approx(theirs.probabilities)


def test_a_newer_deployment_is_looked_up_once(served, cloud, wav_bytes):
    with Client(_address(SHARED)) as client:
        client.predict(wav_bytes)
        reads = len(served.called("get_endpoint"))
        endpoint = cloud.endpoints[ENDPOINT.format(SHARED)]
        endpoint.deployed_models.append(_deployed("4", "4"))
        endpoint.traffic_split = {"4": 100}
        assert [client.predict(wav_bytes).model_version for _ in range(3)] == [4] * 3
    assert len(served.called("get_endpoint")) == reads + 1


def test_a_deployment_named_by_hand_has_no_version(cloud, wav_bytes):
    cloud.endpoints[ENDPOINT.format(SHARED)].deployed_models[0].display_name = "by hand"
    with Client(_address(SHARED)) as client:
        assert client.predict(wav_bytes).model_version is None


@pytest.mark.usefixtures("cloud")
def test_only_unavailable_is_retried(served, wav_bytes):
    with Client(_address(SHARED)) as client:
        served.fail_next("raw_predict", grpc.StatusCode.UNAVAILABLE, times=2)
        assert client.predict(wav_bytes).model_version == 3
        assert len(served.called("raw_predict")) == 3
        served.fail_next("raw_predict", grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
        with pytest.raises(Overloaded, match="not now"):
            client.predict(wav_bytes)
        assert len(served.called("raw_predict")) == 4


@pytest.mark.usefixtures("cloud")
def test_a_missing_endpoint_is_an_error():
    with pytest.raises(RequestFailed, match="projects/p/locations/us-central1/endpoints/3"):
        Client("vertex://p/us-central1/3")


def test_an_endpoint_without_traffic_is_an_error(cloud, wav_bytes):
    cloud.endpoints[ENDPOINT.format(SHARED)].traffic_split = {}
    with Client(_address(SHARED)) as client, pytest.raises(RequestFailed) as failure:
        client.predict(wav_bytes)
    assert failure.value.status == grpc.StatusCode.FAILED_PRECONDITION


def test_a_dedicated_endpoint_without_its_name_is_unreachable(cloud, wav_bytes):
    cloud.endpoints[ENDPOINT.format(DEDICATED)].dedicated_endpoint_dns = ""
    with Client(_address(DEDICATED)) as client, pytest.raises(ServerUnreachable):
        client.predict(wav_bytes)


@pytest.mark.usefixtures("cloud")
def test_an_error_of_the_container_is_passed_on():
    with Client(_address(DEDICATED)) as client, pytest.raises(InvalidRequest, match="60 s"):
        client.predict((np.full(61 * 8_000, 0.1, np.float32), 8_000))


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(("endpoint_id", "limit"), [(SHARED, 1_500_000), (DEDICATED, 10_000_000)])
def test_requests_are_limited_by_the_kind_of_endpoint(served, endpoint_id, limit):
    """Recordings that are too large together go in two requests, and one that is too large alone in parts."""
    with Client(_address(endpoint_id)) as client:
        allowed = client._transport.max_request_bytes
        assert 0.74 * limit < allowed < 0.75 * limit
        largest = _wav(allowed) if endpoint_id == SHARED else _wav(2 * 48_000 * 50)
        assert len(client.predict_batch([largest, largest])) == 2
        sent = len(served.called("raw_predict"))
        assert client.predict(_wav(allowed + 4_000)).emotion
    assert len(served.called("raw_predict")) >= sent + 2
