"""TF Serving's REST interface, and the metrics page."""

import json
import re
import urllib.parse
import zlib
from typing import Any

import grpc
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from serving.server.errors import StatusError, exhausted, invalid, not_found
from serving.server.grpc_services import METADATA_FIELD
from serving.server.handler import Handler
from serving.server.servable import DEFAULT_SIGNATURE, Servable
from serving.server.tensors import arrays_of_json, rows_or_columns

# TF Serving matches paths before it decodes them, with the query as a part, and without regard to case.
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {
    "GET": rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<action>metadata))?",
    "POST": rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<action>classify|regress|predict)",
}
_METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]
_MAX_VERSION = 2**63 - 1
_MODEL = "/v1/models/NAME[/versions/N|/labels/L]"
_USAGE = f"use GET {_MODEL}[/metadata] or POST {_MODEL}:predict"
_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: dict(reversed(pairs)))  # the first of equal keys counts
_HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


def make_app(handler: Handler, *, metrics_path: str | None, max_request_bytes: int) -> Starlette:
    """Return the web application.

    Args:
        handler: Handler of the requests.
        metrics_path: Path of the metrics page; ``None`` for none.
        max_request_bytes: Largest body of a request, before and after decompression.
    """
    routes = []
    if metrics_path:
        routes.append(Route(metrics_path, lambda _: Response(handler.metrics.text(), media_type="text/plain")))
    routes.append(Route("/{path:path}", _RestApi(handler, max_request_bytes).answer, methods=_METHODS))
    return Starlette(routes=routes)


class _RestApi:
    """Endpoint of all paths below ``/v1/``."""

    def __init__(self, handler: Handler, max_request_bytes: int) -> None:
        self._handler = handler
        self._max_request_bytes = max_request_bytes

    async def answer(self, request: Request) -> Response:
        """Return the result or the error of a request as JSON."""
        try:
            return _json_response(await self._result(request))
        except StatusError as error:
            return _json_response({"error": error.message}, _HTTP_STATUS.get(error.status, 500))

    async def _result(self, request: Request) -> dict[str, Any]:
        path = request.scope["raw_path"].decode("latin-1")
        if not path.lower().startswith("/v1/"):
            raise not_found(f"no such path: {path}; {_USAGE}")
        if request.method == "OPTIONS":
            return _preflight(request)
        query = request.scope["query_string"].decode("latin-1")
        spec, action = _parse(request.method, f"{path}?{query}" if query else path)
        if request.method == "POST":
            return await self._run(request, spec, action)
        return self._metadata(spec) if action == "metadata" else self._status(spec)

    async def _run(self, request: Request, spec: model_pb2.ModelSpec, action: str) -> dict[str, Any]:
        with self._handler.metrics.request(self._handler.known_name(spec.name), "REST"):
            body = _parse_json(await self._read(request))
            servable = self._handler.servable(spec)
            if action != "predict":
                raise invalid(f"{action} needs a signature for it; the model's signatures are for predict")
            return await self._predict(servable, body)

    async def _predict(self, servable: Servable, body: dict[str, Any]) -> dict[str, Any]:
        signature = body.get("signature_name", "")
        if not isinstance(signature, str):
            raise invalid(f"'signature_name' is {signature!r}; it must be a string")
        inputs = arrays_of_json(body, servable.input_specs(signature or DEFAULT_SIGNATURE))
        answer = await self._handler.predict(servable, signature, inputs)
        return rows_or_columns(answer.outputs, rows="instances" in body)

    def _status(self, spec: model_pb2.ModelSpec) -> dict[str, Any]:
        statuses = self._handler.manager.model(spec.name).status(spec)
        answer = get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)
        return json_format.MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

    def _metadata(self, spec: model_pb2.ModelSpec) -> dict[str, Any]:
        servable = self._handler.servable(spec)
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        shown = json_format.MessageToDict(
            definitions, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        model_spec = {"name": spec.name, "signature_name": "", "version": str(servable.version)}
        return {"model_spec": model_spec, "metadata": {METADATA_FIELD: shown}}

    async def _read(self, request: Request) -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            self._require_small(size)
            parts.append(part)
        body = b"".join(parts)
        return self._decompress(body) if "gzip" in request.headers.get("content-encoding", "") else body

    def _decompress(self, body: bytes) -> bytes:
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: gzip
        try:
            content = unpacker.decompress(body, self._max_request_bytes + 1)
        except zlib.error as error:
            raise invalid(f"Content-Encoding is gzip, but the body is not: {error}") from error
        self._require_small(len(content))
        if not unpacker.eof:
            raise invalid("Content-Encoding is gzip, but the body ends too early")
        return content

    def _require_small(self, size: int) -> None:
        if size > self._max_request_bytes:
            raise exhausted(f"the request is larger than the {self._max_request_bytes} bytes that are allowed")


def _preflight(request: Request) -> dict[str, Any]:
    """Answer as TF Serving without ``--enable_cors_support`` does: no header allows another origin."""
    if not re.search("https?://", request.headers.get("origin", "")):
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
    return {}


def _parse(method: str, path: str) -> tuple[model_pb2.ModelSpec, str]:
    """Return model and action of a request, such as ``POST /v1/models/ser/versions/3:predict``.

    Args:
        method: HTTP method.
        path: Path and query, as sent.

    Raises:
        StatusError: Nothing is served there.
    """
    match = re.fullmatch(_PATHS.get(method, "(?!)"), path, re.ASCII | re.IGNORECASE)
    action = match["action"] or "" if match else ""
    if not match or (method == "POST" and not action.islower()):
        raise invalid(f"Malformed request: {method} {path}; {_USAGE}")
    if not match["name"]:
        raise invalid(f"Missing model name in request; {_USAGE}")
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(match["name"]))
    if match["version"]:
        spec.version.value = _version_number(match["version"])
    if match["label"]:
        spec.version_label = urllib.parse.unquote(match["label"])
    return spec, action


def _version_number(digits: str) -> int:
    significant = digits.lstrip("0")
    if len(significant) > len(str(_MAX_VERSION)) or int(significant or "0") > _MAX_VERSION:
        raise invalid(f"Failed to convert version: {digits} to numeric; the largest is {_MAX_VERSION}")
    return int(digits)


def _parse_json(body: bytes) -> dict[str, Any]:
    """Return the object that begins a body; as in TF Serving, what follows is ignored.

    Bytes that are not UTF-8 become surrogates, from which :func:`arrays_of_json` restores them.
    """
    text = body.decode("utf-8-sig", "surrogateescape").lstrip(" \t\n\r")
    try:
        content, _ = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise invalid("the body must be a JSON object with either 'instances' (row format) or 'inputs' (columnar)")
    return content


def _json_response(content: dict[str, Any], status_code: int = 200) -> Response:
    """Return ``content`` as JSON, in which TF Serving also writes NaN, Infinity and -Infinity."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(errors="replace"), status_code, media_type="application/json")
