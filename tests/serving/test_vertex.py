"""The client on a Vertex AI endpoint: the real SDK against a small Vertex on the loopback interface."""

import http.server
import ssl
import threading
from concurrent import futures

import grpc
import httpx
import numpy as np
import pytest
from google.api_core import grpc_helpers
from google.auth import credentials
from google.cloud import aiplatform
from google.cloud.aiplatform_v1 import types

from serving.client import Client, InvalidRequest, Overloaded, RequestFailed

ENDPOINT = "projects/p/locations/us-central1/endpoints/{}"
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


class FakeVertex:
    """GetEndpoint and DirectRawPredict; ``failures`` are raised before the model is asked."""

    def __init__(self, model_address, dedicated_host):
        self.failures = []
        self._dedicated_host = dedicated_host
        self._model = grpc.insecure_channel(model_address)
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        methods = {
            "EndpointService": ("GetEndpoint", self._get_endpoint, types.GetEndpointRequest, types.Endpoint),
            "PredictionService": (
                "DirectRawPredict",
                self._direct_raw_predict,
                types.DirectRawPredictRequest,
                types.DirectRawPredictResponse,
            ),
        }
        for service, (name, behaviour, asked, answered) in methods.items():
            handler = grpc.unary_unary_rpc_method_handler(behaviour, asked.deserialize, answered.serialize)
            full_name = f"google.cloud.aiplatform.v1.{service}"
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(full_name, {name: handler})])
        self.port = self._server.add_insecure_port("localhost:0")
        self._server.start()

    def _get_endpoint(self, request, context):
        endpoint_id = request.name.rsplit("/", 1)[1]
        if endpoint_id not in (SHARED, DEDICATED):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no endpoint {request.name}")
        if endpoint_id == SHARED:
            return types.Endpoint(name=request.name)
        return types.Endpoint(
            name=request.name, dedicated_endpoint_enabled=True, dedicated_endpoint_dns=self._dedicated_host
        )

    def _direct_raw_predict(self, request, context):
        if self.failures:
            context.abort(self.failures.pop(0), "not now")
        assert request.endpoint == ENDPOINT.format(SHARED)
        return types.DirectRawPredictResponse(output=self._model.unary_unary(request.method_name)(request.input))

    def stop(self):
        self._server.stop(None).wait()
        self._model.close()


@pytest.fixture
def vertex(shared_server, dedicated_host, certificate, monkeypatch):
    fake = FakeVertex(shared_server.address, dedicated_host)
    channel = grpc.insecure_channel(f"localhost:{fake.port}")
    monkeypatch.setattr(grpc_helpers, "create_channel", lambda *_, **__: channel)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    aiplatform.init(credentials=credentials.AnonymousCredentials(), api_transport="grpc")
    yield fake
    channel.close()
    fake.stop()


def test_a_shared_endpoint_answers_as_the_model_behind_it(vertex, shared_server, wav_bytes):
    with Client(shared_server.address) as direct:
        expected = direct.predict(wav_bytes), list(direct.timeline(wav_bytes))
    with Client(f"vertex://p/us-central1/{SHARED}") as client:
        assert (client.predict(wav_bytes), list(client.timeline(wav_bytes))) == expected


def test_only_unavailable_is_tried_again(vertex, wav_bytes):
    with Client(f"vertex://p/us-central1/{SHARED}") as client:
        vertex.failures = [grpc.StatusCode.UNAVAILABLE] * 2
        assert client.predict(wav_bytes).model_version == 3
        vertex.failures = [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
        with pytest.raises(Overloaded, match="not now"):
            client.predict(wav_bytes)
        assert len(vertex.failures) == 1


def test_an_endpoint_that_is_not_there(vertex):
    with pytest.raises(RequestFailed, match="no endpoint projects/p/locations/us-central1/endpoints/3"):
        Client("vertex://p/us-central1/3")


def test_a_dedicated_endpoint_is_asked_over_https(vertex, shared_server, wav_bytes):
    with Client(shared_server.address) as direct:
        expected = direct.predict(wav_bytes)
    with Client(f"vertex://p/us-central1/{DEDICATED}") as client:
        assert client.predict(wav_bytes).probabilities == pytest.approx(expected.probabilities)
        with pytest.raises(InvalidRequest, match="at most 60 s"):
            client.predict((np.full(61 * 8_000, 0.1, np.float32), 8_000))
