"""The client on a Vertex AI endpoint: the real SDK against a stand-in for Vertex on the loopback interface."""

import http.server
import ssl
import threading

import grpc
import httpx
import numpy as np
import pytest
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as vertex
from google.oauth2 import credentials

from serving.client import Client, InvalidRequest, Overloaded, RequestFailed
from tests.fakes.vertex import FakeVertex
from tests.fakes.vertex_endpoints import PROJECT_NUMBER, Cloud

ENDPOINT = f"projects/{PROJECT_NUMBER}/locations/us-central1/endpoints/{{}}"
SHARED, DEDICATED = "1", "2"


@pytest.fixture(scope="module")
def dedicated_host(shared_server, certificate):
    """Vertex's HTTPS front of a dedicated endpoint: hands the body to the model's predict route."""

    class Front(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == f"/v1/{ENDPOINT.format(DEDICATED)}:rawPredict", self.path
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = httpx.post(f"{shared_server.rest_url}/v1/models/ser:predict", content=body)
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_):
            """Says nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with http.server.ThreadingHTTPServer(("localhost", 0), Front) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"localhost:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory, certificate):
    fake = FakeVertex(tmp_path_factory.mktemp("vertex"), {}, region="us-central1")
    with fake, pytest.MonkeyPatch.context() as patch:
        for name, value in fake.environ.items():
            patch.setenv(name, value)
        patch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        aiplatform.init(credentials=credentials.Credentials("a token"), api_transport="grpc")
        yield fake


@pytest.fixture
def fake(served, shared_server, dedicated_host) -> FakeVertex:
    """One model, deployed on a shared and on a dedicated endpoint."""
    model = vertex.Model(
        name="models/ser",
        version_id="1",
        container_spec=vertex.ModelContainerSpec(grpc_ports=[vertex.Port(container_port=8500)]),
    )
    deployed = vertex.DeployedModel(id="3", model=model.name, model_version_id="1")
    shared = vertex.Endpoint(name=ENDPOINT.format(SHARED), deployed_models=[deployed], traffic_split={"3": 100})
    dedicated = vertex.Endpoint(
        name=ENDPOINT.format(DEDICATED), dedicated_endpoint_enabled=True, dedicated_endpoint_dns=dedicated_host
    )
    cloud = Cloud(
        models={"models/ser@1": model},
        endpoints={endpoint.name: endpoint for endpoint in (shared, dedicated)},
        addresses={"3": shared_server.address},
    )
    served.reset(cloud.services())
    return served


@pytest.mark.usefixtures("fake")
def test_a_shared_endpoint_answers_as_the_model_behind_it(shared_server, wav_bytes):
    with Client(shared_server.address) as direct:
        expected = direct.predict(wav_bytes), list(direct.timeline(wav_bytes))
    with Client(f"vertex://p/us-central1/{SHARED}") as client:
        assert (client.predict(wav_bytes), list(client.timeline(wav_bytes))) == expected


def test_only_unavailable_is_tried_again(fake, wav_bytes):
    with Client(f"vertex://p/us-central1/{SHARED}") as client:
        fake.fail_next("direct_raw_predict", grpc.StatusCode.UNAVAILABLE, times=2)
        assert client.predict(wav_bytes).model_version == 3
        assert len(fake.called("direct_raw_predict")) == 3
        fake.fail_next("direct_raw_predict", grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
        with pytest.raises(Overloaded, match="not now"):
            client.predict(wav_bytes)
        assert len(fake.called("direct_raw_predict")) == 4


@pytest.mark.usefixtures("fake")
def test_an_endpoint_that_is_not_there():
    with pytest.raises(RequestFailed, match="projects/p/locations/us-central1/endpoints/3 does not exist"):
        Client("vertex://p/us-central1/3")


@pytest.mark.usefixtures("fake")
def test_a_dedicated_endpoint_is_asked_over_https(shared_server, wav_bytes):
    with Client(shared_server.address) as direct:
        expected = direct.predict(wav_bytes)
    with Client(f"vertex://p/us-central1/{DEDICATED}") as client:
        assert client.predict(wav_bytes).probabilities == pytest.approx(expected.probabilities)
        with pytest.raises(InvalidRequest, match="at most 60 s"):
            client.predict((np.full(61 * 8_000, 0.1, np.float32), 8_000))
