"""A stand-in for Google Cloud Storage, for unmodified clients: its JSON API over TLS on loopback, behind a proxy.

Every client that obeys the environment in :attr:`FakeStorage.environ` reaches it with TLS and credentials as in
production: TensorFlow's file system ``gs://`` (libcurl), google-cloud-storage and therefore Beam's gcsio (requests).
The contract that is imitated, from Google's reference and from what these clients send:

* Objects have a generation, a size, a time and a CRC32C, in their metadata and in the header ``x-goog-hash``.
* Folders do not exist. A listing with a delimiter gives prefixes; a renamed folder is a rewrite and a deletion of each
  object (``storageLayout`` has a flat namespace).
* Uploads are resumable, in one part or several (308 until the last one), multipart or simple. ``ifGenerationMatch``
  makes them conditional.
* A batch holds several requests, each with a status of its own.
* A request without a bearer token is 401, without the permission 403 (:attr:`FakeStorage.denied`), in a bucket that
  does not exist 404.

Not imitated: versioning, soft deletion, hierarchical namespaces, quota, access by object.
"""

import base64
import collections
import contextlib
import dataclasses
import datetime
import email
import email.message
import email.policy
import http.server
import itertools
import json
import re
import shutil
import socket
import ssl
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c

from tests.fakes.vertex import connect_proxy, make_certificates, make_service_account

_LOOPBACK = "127.0.0.1"
_HOSTS = ("storage.googleapis.com", "www.googleapis.com", "oauth2.googleapis.com")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:\*|(\d+)-(\d+))/(\*|\d+)")
_TOKEN = "test-token"
_MAX_RESULTS = 1000


@dataclasses.dataclass
class Object:
    """An object; its content is a file.

    Attributes:
        created: Set it to make the object older.
    """

    path: Path
    size_bytes: int
    crc32c: str
    generation: int
    created: datetime.datetime


@dataclasses.dataclass(frozen=True)
class _Request:
    method: str
    url: urllib.parse.SplitResult
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.url.query))


@dataclasses.dataclass
class _Answer:
    """``content`` is JSON, bytes, or a part of a file: path, first byte, number of bytes."""

    status: int = 200
    content: Any = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = _Answer(status, {"error": {"code": status, "message": message, "errors": []}})


class FakeStorage:
    """Server of buckets; a context manager. Their content can also be read afterwards.

    Addresses are ``gs://bucket/name`` everywhere.

    Attributes:
        environ: For the processes of clients: proxy, certificate authority, credentials.
        sockets: For :mod:`tests.fakes.isolated`: the proxy's port, and a socket by which it is reached from processes
            that have a network of their own.
        calls: Every request so far that needed a permission, as (permission, address).
        denied: Permissions that the caller does not have, such as ``storage.buckets.get``.
    """

    def __init__(self, folder: Path, *buckets: str) -> None:
        """Take a folder for contents and keys, and the names of the buckets that exist."""
        self.environ: dict[str, str] = {}
        self.sockets: dict[int, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.denied: set[str] = set()
        self.failures: collections.deque[int] = collections.deque()
        self._buckets: dict[str, dict[str, Object]] = {bucket: {} for bucket in buckets}
        self._uploads: dict[str, tuple[str, dict[str, str], Path]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._ports: dict[str, int] = {}
        self._folder = Path(tempfile.mkdtemp(dir=folder, prefix="storage-"))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "FakeStorage":
        certificates = make_certificates(self._folder, *_HOSTS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        server = self._stack.enter_context(_Server(context, type("Handler", (_Handler,), {"fake": self})))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.shutdown)
        short = self._stack.enter_context(tempfile.TemporaryDirectory())  # a socket's path has 107 bytes at most
        path = f"{short}/proxy"
        self._ports = dict.fromkeys(_HOSTS, server.server_address[1])
        proxy = self._stack.enter_context(connect_proxy(self._ports, path))
        self.sockets = {proxy: path}
        self.environ = {
            "https_proxy": f"http://{_LOOPBACK}:{proxy}",
            "no_proxy": "localhost,127.0.0.1",
            "CURL_CA_BUNDLE": str(certificates.authority),
            "REQUESTS_CA_BUNDLE": str(certificates.authority),
            "HTTPLIB2_CA_CERTS": str(certificates.authority),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": _TOKEN,
            "GOOGLE_APPLICATION_CREDENTIALS": str(make_service_account(self._folder)),
            "NO_GCE_CHECK": "true",
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def route(self, ports: Mapping[str, int]) -> None:
        """Route the proxy to the ports of another stand-in, too, by host name or pattern."""
        self._ports.update({host: port for host, port in ports.items() if host not in self._ports})

    def addresses(self, prefix: str) -> list[str]:
        """Return the sorted addresses of the objects below a prefix."""
        bucket, name = _split(prefix)
        return sorted(f"gs://{bucket}/{key}" for key in list(self._buckets[bucket]) if key.startswith(name))

    def object(self, address: str) -> Object:
        bucket, name = _split(address)
        return self._buckets[bucket][name]

    def read_bytes(self, address: str) -> bytes:
        return self.object(address).path.read_bytes()

    def read_text(self, address: str) -> str:
        return self.read_bytes(address).decode()

    def write_bytes(self, address: str, content: bytes) -> None:
        path = self._new_file()
        path.write_bytes(content)
        self._keep(*_split(address), path)

    def upload(self, folder: Path, address: str) -> None:
        """Copy a local folder to an address."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._keep(*_split(f"{address}/{path.relative_to(folder).as_posix()}"), self._copied(path))

    def download(self, address: str, folder: Path) -> None:
        """Copy the objects below an address into a local folder."""
        for source in self.addresses(f"{address}/"):
            if source.endswith("/"):  # an object that stands for a folder, as TensorFlow makes them
                continue
            target = folder / source.removeprefix(f"{address}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.object(source).path, target)

    def age(self, prefix: str, days: float) -> None:
        """Make every object below a prefix older."""
        for address in self.addresses(prefix):
            self.object(address).created -= datetime.timedelta(days=days)

    def expire(self, prefix: str, days: float) -> list[str]:
        """Delete the objects that a lifecycle rule with ``matchesPrefix`` and ``age`` would; return their addresses."""
        oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
        expired = [address for address in self.addresses(prefix) if self.object(address).created <= oldest]
        for address in expired:
            self._drop(*_split(address))
        return expired

    def _new_file(self) -> Path:
        return self._folder / str(next(self._numbers))

    def _copied(self, path: Path) -> Path:
        copy = self._new_file()
        shutil.copyfile(path, copy)
        return copy

    def _keep(self, bucket: str, name: str, path: Path) -> Object:
        kept = Object(
            path=path,
            size_bytes=path.stat().st_size,
            crc32c=_checksum(path),
            generation=next(self._numbers),
            created=datetime.datetime.now(datetime.UTC),
        )
        with self._lock:
            replaced = self._buckets[bucket].get(name)
            self._buckets[bucket][name] = kept
        if replaced:
            replaced.path.unlink()
        return kept

    def _drop(self, bucket: str, name: str) -> None:
        with self._lock:
            self._buckets[bucket].pop(name).path.unlink()

    def answer(self, request: _Request) -> _Answer:
        """Answer a request as the service does."""
        try:
            if self.failures:
                raise _Refused(self.failures.popleft(), "injected")
            if request.url.path == "/token":
                return _Answer(content={"access_token": _TOKEN, "expires_in": 3600, "token_type": "Bearer"})
            if request.url.path == "/batch/storage/v1":
                return _batch(request, self.answer)
            if not request.headers.get("Authorization", "").startswith("Bearer "):
                raise _Refused(401, "no bearer token")
            for method, pattern, answer in _ROUTES:
                match = re.fullmatch(pattern, request.url.path)
                if match and method == request.method:
                    return answer(self, request, *map(urllib.parse.unquote, match.groups()))
            raise _Refused(404, f"{request.method} {request.url.path} is not served")
        except _Refused as refused:
            return refused.answer

    def _require(self, permission: str, bucket: str, name: str = "") -> dict[str, Object]:
        self.calls.append((permission, f"gs://{bucket}/{name}"))
        if permission in self.denied:
            raise _Refused(403, f"the caller does not have {permission} access to gs://{bucket}/{name}")
        if bucket not in self._buckets:
            raise _Refused(404, f"the bucket {bucket} does not exist")
        return self._buckets[bucket]

    def _existing(self, permission: str, bucket: str, name: str) -> Object:
        existing = self._require(permission, bucket, name).get(name)
        if existing is None:
            raise _Refused(404, f"No such object: {bucket}/{name}")
        return existing

    def _get_bucket(self, _: _Request, bucket: str) -> _Answer:
        self._require("storage.buckets.get", bucket)
        return _Answer(content={"kind": "storage#bucket", "name": bucket, "location": "EUROPE-WEST4"})

    def _get_layout(self, _: _Request, bucket: str) -> _Answer:
        self._require("storage.objects.list", bucket)
        return _Answer(content={"bucket": bucket, "hierarchicalNamespace": {"enabled": False}})

    def _list(self, request: _Request, bucket: str) -> _Answer:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        objects = dict(self._require("storage.objects.list", bucket))
        entries: dict[str, Object | None] = {}
        for name in sorted(name for name in objects if name.startswith(prefix)):
            rest = name.removeprefix(prefix)
            cut = rest.find(delimiter) if delimiter else -1
            entries[name if cut < 0 else prefix + rest[: cut + 1]] = objects[name] if cut < 0 else None
        left = [name for name in entries if name > query.get("pageToken", "")]
        page = left[: int(query.get("maxResults", _MAX_RESULTS))]
        answer: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [_metadata(bucket, name, item) for name in page if (item := entries[name])],
            "prefixes": [name for name in page if entries[name] is None],
        }
        if len(page) < len(left):
            answer["nextPageToken"] = page[-1]
        return _Answer(content=answer)

    def _get(self, request: _Request, bucket: str, name: str) -> _Answer:
        if request.query.get("alt") == "media":
            return self._read(request, bucket, name)
        return _Answer(content=_metadata(bucket, name, self._existing("storage.objects.get", bucket, name)))

    def _read(self, request: _Request, bucket: str, name: str) -> _Answer:
        item = self._existing("storage.objects.get", bucket, name)
        headers = {"x-goog-hash": f"crc32c={item.crc32c}", "x-goog-generation": str(item.generation)}
        requested = _RANGE.fullmatch(request.headers.get("Range", ""))
        if not requested:
            return _Answer(200, (item.path.open("rb"), 0, item.size_bytes), headers)
        first, last = int(requested[1]), min(int(requested[2] or item.size_bytes), item.size_bytes - 1)
        if first >= item.size_bytes:
            raise _Refused(416, f"{bucket}/{name} has {item.size_bytes} bytes")
        headers["Content-Range"] = f"bytes {first}-{last}/{item.size_bytes}"
        return _Answer(206, (item.path.open("rb"), first, last - first + 1), headers)

    def _delete(self, request: _Request, bucket: str, name: str) -> _Answer:
        with self._lock:
            self._existing("storage.objects.delete", bucket, name)
            self._require_generation(request.query, bucket, name)
            self._drop(bucket, name)
        return _Answer(204)

    def _copy(self, request: _Request, bucket: str, name: str, to_bucket: str, to_name: str) -> _Answer:
        source = self._existing("storage.objects.get", bucket, name)
        self._require("storage.objects.create", to_bucket, to_name)
        copied = _metadata(
            to_bucket, to_name, self._store(request.query, to_bucket, to_name, self._copied(source.path))
        )
        if "/copyTo/" in request.url.path:
            return _Answer(content=copied)
        size = str(source.size_bytes)
        return _Answer(content={"done": True, "objectSize": size, "totalBytesRewritten": size, "resource": copied})

    def _start_upload(self, request: _Request, bucket: str) -> _Answer:
        query = request.query
        kind, name, content = query.get("uploadType"), query.get("name", ""), request.body
        if kind == "resumable":
            name = name or json.loads(content)["name"]
            self._require("storage.objects.create", bucket, name)
            upload, path = f"upload-{next(self._numbers)}", self._new_file()
            path.touch()
            self._uploads[upload] = (f"gs://{bucket}/{name}", query, path)
            place = urllib.parse.urlencode({"uploadType": "resumable", "name": name, "upload_id": upload})
            return _Answer(headers={"Location": f"https://{_HOSTS[0]}/upload/storage/v1/b/{bucket}/o?{place}"})
        if kind == "multipart":
            described, part = _parts(request)
            name, content = (
                name or json.loads(described.get_payload(decode=True))["name"],
                part.get_payload(decode=True),
            )
        self._require("storage.objects.create", bucket, name)
        path = self._new_file()
        path.write_bytes(content)
        return _Answer(content=_metadata(bucket, name, self._store(query, bucket, name, path)))

    def _resume_upload(self, request: _Request, _: str) -> _Answer:
        address, query, path = self._uploads[request.query["upload_id"]]
        size = path.stat().st_size
        content_range = _CONTENT_RANGE.fullmatch(request.headers.get("Content-Range", ""))
        if request.body and (content_range is None or int(content_range[1] or 0) == size):
            with path.open("ab") as file:
                file.write(request.body)
            size += len(request.body)
        if content_range is None or content_range[3] == str(size):
            bucket, name = _split(address)
            del self._uploads[request.query["upload_id"]]
            return _Answer(content=_metadata(bucket, name, self._store(query, bucket, name, path)))
        return _Answer(308, headers={"Range": f"bytes=0-{size - 1}"} if size else {})

    def _store(self, query: Mapping[str, str], bucket: str, name: str, path: Path) -> Object:
        with self._lock:
            self._require_generation(query, bucket, name)
            if name in self._buckets[bucket]:
                self._require("storage.objects.delete", bucket, name)  # as the service does when one is replaced
            return self._keep(bucket, name, path)

    def _require_generation(self, query: Mapping[str, str], bucket: str, name: str) -> None:
        current = self._buckets[bucket].get(name)
        generation = query.get("ifGenerationMatch")
        if generation is not None and int(generation) != (current.generation if current else 0):
            raise _Refused(412, f"{bucket}/{name} has another generation than {generation}")


_BUCKET = "/storage/v1/b/([^/]+)"
_OBJECT = f"{_BUCKET}/o/([^/]+)"
_ROUTES: tuple[tuple[str, str, Callable[..., _Answer]], ...] = (
    ("GET", _BUCKET, FakeStorage._get_bucket),
    ("GET", f"{_BUCKET}/storageLayout", FakeStorage._get_layout),
    ("GET", f"{_BUCKET}/o", FakeStorage._list),
    ("GET", f"(?:/download)?{_OBJECT}", FakeStorage._get),
    ("DELETE", _OBJECT, FakeStorage._delete),
    ("POST", f"{_OBJECT}/(?:copyTo|rewriteTo)/b/([^/]+)/o/([^/]+)", FakeStorage._copy),
    ("POST", f"/(?:resumable/)?upload{_BUCKET}/o", FakeStorage._start_upload),
    ("PUT", f"/upload{_BUCKET}/o", FakeStorage._resume_upload),
    ("GET", "/([a-z0-9][a-z0-9._-]+)/(.+)", FakeStorage._read),  # the XML API, by which TensorFlow reads
)


def _split(address: str) -> tuple[str, str]:
    bucket, _, name = address.removeprefix("gs://").partition("/")
    return bucket, name


def _checksum(path: Path) -> str:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        collections.deque(checksum.consume(file, 2**20), maxlen=0)
    return base64.b64encode(checksum.digest()).decode()


def _metadata(bucket: str, name: str, item: Object) -> dict[str, Any]:
    created = item.created.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "size": str(item.size_bytes),
        "generation": str(item.generation),
        "metageneration": "1",
        "timeCreated": created,
        "updated": created,
        "crc32c": item.crc32c,
    }


def _parts(request: _Request) -> list[email.message.Message]:
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    return email.message_from_bytes(head + request.body).get_payload()


def _batch(request: _Request, answer: Callable[[_Request], _Answer]) -> _Answer:
    """Answer the requests of a batch one by one."""
    lines = []
    for part in _parts(request):
        line, _, rest = part.get_payload(decode=True).partition(b"\n")
        method, url, *_ = line.decode().split()
        inner = email.message_from_bytes(rest)
        headers = {"Authorization": request.headers.get("Authorization", ""), **dict(inner.items())}
        body = inner.get_payload(decode=True) or b""
        answered = answer(_Request(method, urllib.parse.urlsplit(url), headers, body))
        text = json.dumps(answered.content or {})
        head = f"HTTP/1.1 {answered.status} {http.HTTPStatus(answered.status).phrase}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(text)}"
        lines += ["--answers", "Content-Type: application/http", "", head, "", text]
    body = "\r\n".join([*lines, "--answers--", ""]).encode()
    return _Answer(content=body, headers={"Content-Type": "multipart/mixed; boundary=answers"})


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, context: ssl.SSLContext, handler: type["_Handler"]) -> None:
        super().__init__((_LOOPBACK, 0), handler)
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the TLS handshake in the connection's thread, so that it does not block other connections."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._context.wrap_socket(request, server_side=True) as connection:
            self.RequestHandlerClass(connection, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hung up


class _Handler(http.server.BaseHTTPRequestHandler):
    fake: FakeStorage
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one segment: else each answer waits for the acknowledgement of its head

    def handle_expect_100(self) -> bool:
        expected = super().handle_expect_100()
        self.wfile.flush()
        return expected

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        self._send(self.fake.answer(_Request(self.command, url, self.headers, self._body())))

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":  # as TensorFlow sends an object, with a length, too
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _send(self, answer: _Answer) -> None:
        content, length, kind = answer.content, 0, "application/octet-stream"
        if isinstance(content, dict):
            content, kind = json.dumps(content).encode(), "application/json"
        length = content[2] if isinstance(content, tuple) else len(content)
        self.send_response(answer.status)
        for name, value in {"Content-Type": kind, **answer.headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if isinstance(content, tuple):
            file, first, length = content
            with file:
                file.seek(first)
                for chunk in _chunks(file, length):
                    self.wfile.write(chunk)
        else:
            self.wfile.write(content)


def _chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0:
        chunk = file.read(min(length, 2**20))
        length -= len(chunk)
        yield chunk
