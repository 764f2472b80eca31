"""Fake of the Vertex AI services for unmodified clients: gRPC and HTTPS on loopback, reached through proxies.

What it imitates is the wire: every client of ``<region>-aiplatform.googleapis.com`` that obeys the environment in
:attr:`FakeVertex.environ` talks to it, with TLS, HTTP/2 and credentials as in production. Method paths and message
types are read from the installed Google client, so they are Google's. Services define what a method does: objects
with a method for each RPC that they answer (``create_pipeline_job`` for ``CreatePipelineJob``), which take the request
and a :class:`grpc.ServicerContext` and return the response, or raise :class:`Refused`. An RPC without a service is
UNIMPLEMENTED. Long-running operations are answered as done at once: :func:`done`. Over HTTPS there are tokens for
service accounts, and RawPredict, which a service answers in ``raw_predict_http`` (:class:`HttpAnswer`).

A service that streams or is not part of ``aiplatform_v1`` is not served. A process that opened a TLS channel before its
environment was set has read the machine's authorities, and keeps them.
"""

import collections
import contextlib
import dataclasses
import datetime
import fnmatch
import functools
import http.server
import importlib
import ipaddress
import json
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import credentials as auth_credentials
from google.longrunning import operations_pb2

from tests.fakes import isolated

DEDICATED_DOMAIN = "prediction.vertexai.goog"

_CLIENTS = "google.cloud.aiplatform_v1.services"
_TOKENS_HOST = "oauth2.googleapis.com"
_RAW_PREDICT = re.compile(r"/v1/(projects/[^/]+/locations/[^/]+/endpoints/[^/:]+):rawPredict")
# As in google.rpc.Code.
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_LOOPBACK = "127.0.0.1"
_MAX_MESSAGE_BYTES = 64 * 2**20


class Refused(Exception):
    """Error that a service answers with."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class HttpAnswer:
    """Answer of a service over HTTPS."""

    status: int
    body: bytes
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Method:
    """An RPC of the installed client."""

    path: str
    request: Any
    response: Any

    @property
    def name(self) -> str:
        """Name in services, such as ``create_pipeline_job``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.path.rpartition("/")[2]).lower()


@functools.cache
def methods(service: str) -> dict[str, Method]:
    """Return the RPCs of a service such as ``pipeline_service``, by path, from Google's own client."""
    module = importlib.import_module(f"{_CLIENTS}.{service}.transports.grpc")
    transport_class = next(value for name, value in vars(module).items() if name.endswith("ServiceGrpcTransport"))
    recorder = _Recorder()
    transport = transport_class(channel=recorder, credentials=auth_credentials.AnonymousCredentials())
    transport._logged_channel = recorder
    transport._stubs = {}
    for name, member in vars(transport_class).items():
        if isinstance(member, property):
            getattr(transport, name)
    return recorder.methods


class _Recorder(grpc.Channel):
    """Channel that records the methods that a client requests."""

    def __init__(self) -> None:
        self.methods: dict[str, Method] = {}

    def unary_unary(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):
        if method.startswith("/google.cloud.aiplatform"):
            request = request_serializer.__self__
            response = getattr(response_deserializer, "__self__", None) or operations_pb2.Operation
            self.methods[method] = Method(method, request, response)
        return lambda *_, **__: None

    def unary_stream(self, *_, **__):
        return lambda *_, **__: None

    stream_unary = stream_stream = unary_stream

    def subscribe(self, callback, try_to_connect=False):
        pass

    def unsubscribe(self, callback):
        pass

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def done(response: Any, name: str = "projects/1/locations/r/operations/1") -> operations_pb2.Operation:
    """Return a finished long-running operation with a result."""
    operation = operations_pb2.Operation(name=name, done=True)
    operation.response.Pack(type(response).pb(response))
    return operation


class FakeVertex(grpc.GenericRpcHandler):
    """Server of fake services over TLS on loopback; a context manager.

    Attributes:
        environ: For the processes of clients: proxies, certificate authority, a service account's key.
        https_ports: Port of each host, or pattern of hosts, that is served over HTTPS: for :func:`connect_proxy`, where
            clients need one proxy for several stand-ins.
        calls: Every request so far, as (method name, request).
    """

    def __init__(self, folder: Path, services: dict[str, Any], *, region: str = "europe-west4") -> None:
        """Take the services by the name of Google's client for them: ``{"pipeline_service": …}``."""
        self.calls: list[tuple[str, Any]] = []
        self.environ: dict[str, str] = {}
        self.https_ports: dict[str, int] = {}
        self._services = services
        self._folder = folder
        self._host = f"{region}-aiplatform.googleapis.com"
        self._failures: dict[str, collections.deque[Refused]] = collections.defaultdict(collections.deque)
        self._lost: collections.Counter[str] = collections.Counter()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "FakeVertex":
        hosts = [self._host, _TOKENS_HOST, f"*.{self._host.partition('-aiplatform')[0]}-1.{DEDICATED_DOMAIN}"]
        certificates = make_certificates(self._folder, *hosts)
        server = grpc.server(
            futures.ThreadPoolExecutor(16),
            handlers=[self],
            options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)],
        )
        credentials = grpc.ssl_server_credentials([(certificates.key.read_bytes(), certificates.chain.read_bytes())])
        port = server.add_secure_port(f"{_LOOPBACK}:0", credentials)
        server.start()
        self._stack.callback(lambda: server.stop(grace=None).wait())
        proxy = self._stack.enter_context(connect_proxy({self._host: port}))
        self.https_ports = dict.fromkeys(hosts, self._stack.enter_context(_https_server(self, certificates)))
        https_proxy = self._stack.enter_context(connect_proxy(self.https_ports))
        self.environ = {
            "grpc_proxy": f"http://{_LOOPBACK}:{proxy}",
            "no_grpc_proxy": "localhost,127.0.0.1",  # what a component serves to itself
            "https_proxy": f"http://{_LOOPBACK}:{https_proxy}",
            "no_proxy": "localhost,127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(certificates.authority),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificates.authority),
            "GOOGLE_APPLICATION_CREDENTIALS": str(make_service_account(self._folder)),
            "NO_GCE_CHECK": "true",
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def in_environment(self) -> Iterator["FakeVertex"]:
        """Serve, and let the clients of this process find the server by their environment variables."""
        with self, pytest.MonkeyPatch.context() as patch:
            for name, value in self.environ.items():
                patch.setenv(name, value)
            yield self

    def reset(self, services: dict[str, Any]) -> None:
        """Restart with other services, on the same ports and with the same keys."""
        self._services = services
        self.calls.clear()
        self._failures.clear()
        self._lost.clear()

    def lose_next(self, method: str) -> None:
        """Execute the next call of a method and lose its answer."""
        self._lost[method] += 1

    def fail_next(self, method: str, code: grpc.StatusCode, message: str = "injected", *, times: int = 1) -> None:
        """Answer the next calls of a method, such as ``create_schedule``, with an error."""
        self._failures[method].extend([Refused(code, message)] * times)

    def called(self, method: str) -> list[Any]:
        """Return the requests of a method so far."""
        return [request for name, request in self.calls if name == method]

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        for name, service in self._services.items():
            method = methods(name).get(handler_call_details.method)
            answer = getattr(service, method.name, None) if method else None
            if method and answer:
                return grpc.unary_unary_rpc_method_handler(
                    functools.partial(self._answer, method, answer),
                    request_deserializer=method.request.deserialize,
                    response_serializer=_serialize,
                )
        return None

    def _answer(self, method: Method, answer: Callable[..., Any], request: Any, context: grpc.ServicerContext) -> Any:
        token = dict(context.invocation_metadata()).get("authorization", "")
        try:
            return self._called(method.name, request, token, lambda: answer(request, context))
        except Refused as refused:
            context.abort(refused.code, refused.message)

    def raw_predict(self, host: str, endpoint: str, body: bytes, token: str) -> HttpAnswer:
        """Answer RawPredict, addressed to a host."""
        service = self._services["prediction_service"]
        try:
            return self._called("raw_predict", body, token, lambda: service.raw_predict_http(host, endpoint, body))
        except Refused as refused:
            status = _HTTP_STATUS[refused.code]
            error = {"code": status, "message": refused.message, "status": refused.code.name}
            return HttpAnswer(status, json.dumps({"error": error}).encode())

    def _called(self, method: str, request: Any, token: str, answer: Callable[[], Any]) -> Any:
        self.calls.append((method, request))
        if token[:7] != "Bearer ":
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "no bearer token")
        if self._failures[method]:
            raise self._failures[method].popleft()
        response = answer()
        if self._lost[method]:
            self._lost[method] -= 1
            raise Refused(grpc.StatusCode.UNAVAILABLE, "connection lost")
        return response


@contextlib.contextmanager
def _https_server(fake: FakeVertex, certificates: "Certificates") -> Iterator[int]:
    """Serve RawPredict and tokens on loopback, at the port that is returned."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            host = self.headers["Host"].partition(":")[0]
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if host == _TOKENS_HOST:
                token = {"access_token": "a token", "expires_in": 3600, "token_type": "Bearer"}
                self._send(HttpAnswer(200, json.dumps(token).encode(), {"Content-Type": "application/json"}))
            elif match := _RAW_PREDICT.fullmatch(self.path):
                self._send(fake.raw_predict(host, match[1], body, self.headers.get("Authorization", "")))
            else:
                self._send(HttpAnswer(404, b"<html>Not Found</html>"))

        def _send(self, answer: HttpAnswer) -> None:
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain, certificates.key)
    with http.server.ThreadingHTTPServer((_LOOPBACK, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _serialize(message: Any) -> bytes:
    return message.SerializeToString() if hasattr(message, "SerializeToString") else type(message).serialize(message)


@contextlib.contextmanager
def connect_proxy(ports: dict[str, int], path: str | None = None) -> Iterator[int]:
    """Run an HTTP proxy on loopback that tunnels to local ports by host name or pattern, and refuses others.

    Args:
        path: Unix socket that it also listens on.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = _read_head(self.request)
            host = head.split(b" ")[1].decode().partition(":")[0] if head.startswith(b"CONNECT ") else ""
            port = next((port for pattern, port in ports.items() if fnmatch.fnmatch(host, pattern)), None)
            if port is None:
                self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            with socket.create_connection((_LOOPBACK, port)) as upstream:
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                isolated.pipe(self.request, upstream)

    with contextlib.ExitStack() as listening:
        server = listening.enter_context(isolated.tcp_server(0, Handler))
        if path:
            listening.enter_context(isolated.unix_server(path, Handler))
        yield server.server_address[1]


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(4096)
        if not received:
            break
        head += received
    return head


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    authority: Path
    chain: Path
    key: Path


def make_certificates(folder: Path, *hosts: str) -> Certificates:
    """Make a certificate for ``hosts`` and loopback, and the authority that signs it."""
    authority_key, authority = _authority()
    key = _make_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
    alternatives = [*map(x509.DNSName, hosts), x509.IPAddress(ipaddress.ip_address(_LOOPBACK))]
    server = _certificate(name, authority.subject, key, authority_key).add_extension(
        x509.SubjectAlternativeName(alternatives), critical=False
    )
    paths = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    encoding = serialization.Encoding.PEM
    paths.authority.write_bytes(authority.public_bytes(encoding))
    paths.chain.write_bytes(server.sign(authority_key, hashes.SHA256()).public_bytes(encoding))
    paths.key.write_bytes(_pem(key))
    return paths


@functools.cache
def _authority() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """Return the authority of all servers of a process, whose gRPC clients read the file of authorities once."""
    key, name = _make_key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    certificate = _certificate(name, name, key, key)
    certificate = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return key, certificate.sign(key, hashes.SHA256())


def _certificate(
    name: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, issuer_key: rsa.RSAPrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(issuer_id, critical=False)
    )


def _make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_service_account(folder: Path) -> Path:
    """Make a key of a service account. gRPC clients sign tokens with it; others get one from ``token_uri``."""
    path = folder / "service_account.json"
    account = {
        "type": "service_account",
        "project_id": "example-project",
        "private_key_id": "1",
        "private_key": _pem(_make_key()).decode(),
        "client_email": "tests@example-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"https://{_TOKENS_HOST}/token",
    }
    path.write_text(json.dumps(account))
    return path
