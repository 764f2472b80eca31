"""TF Serving's REST interface, and the metrics page."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from serving.server.errors import StatusError, exhausted, invalid, not_found
from serving.server.grpc_services import METADATA_FIELD
from serving.server.handler import Handler
from serving.server.servable import DEFAULT_SIGNATURE
from serving.server.tensors import arrays_of_json, rows_or_columns

_MODEL_PATH = re.compile(
    r"(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?(?P<action>:predict|/metadata)?"
)
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def make_app(handler: Handler, *, metrics_path: str | None, max_request_bytes: int) -> Starlette:
    """Return the web application.

    Args:
        handler: Handler of the requests.
        metrics_path: Path of the metrics page; ``None`` for none.
        max_request_bytes: Largest body of a request.
    """
    models = _Models(handler, max_request_bytes)
    routes = [
        Route("/v1/models/{path:path}", _json_endpoint(models.get), methods=["GET"]),
        Route("/v1/models/{path:path}", _json_endpoint(models.post), methods=["POST"]),
    ]
    if metrics_path:
        routes.append(Route(metrics_path, lambda _: Response(handler.metrics.text(), media_type="text/plain")))
    return Starlette(routes=routes)


class _Models:
    """Endpoints under ``/v1/models``."""

    def __init__(self, handler: Handler, max_request_bytes: int) -> None:
        self._handler = handler
        self._max_request_bytes = max_request_bytes

    async def get(self, request: Request) -> dict[str, Any]:
        """Return the status or the metadata of a model."""
        spec, action = _parse(request.path_params["path"])
        if action == "/metadata":
            return self._metadata(spec)
        if action:
            raise invalid(f"{action} must be called with POST")
        statuses = self._handler.manager.model(spec.name).status(spec)
        answer = get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)
        # TF Serving also writes fields with default values.
        return json_format.MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

    async def post(self, request: Request) -> dict[str, Any]:
        """Return the outputs of a predict request."""
        spec, action = _parse(request.path_params["path"])
        if action != ":predict":
            raise not_found("only :predict can be called with POST")
        with self._handler.metrics.request(self._handler.known_name(spec.name), "REST"):
            body = _parse_json(await self._read(request))
            servable = self._handler.servable(spec)
            signature = body.get("signature_name", DEFAULT_SIGNATURE) if isinstance(body, dict) else DEFAULT_SIGNATURE
            inputs = arrays_of_json(body, servable.input_specs(str(signature)))
            answer = await self._handler.predict(servable, str(signature), inputs)
        return rows_or_columns(answer.outputs, rows="instances" in body)

    def _metadata(self, spec: model_pb2.ModelSpec) -> dict[str, Any]:
        servable = self._handler.servable(spec)
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        shown = json_format.MessageToDict(definitions, preserving_proto_field_name=True)
        model_spec = {"name": spec.name, "signature_name": "", "version": str(servable.version)}
        return {"model_spec": model_spec, "metadata": {METADATA_FIELD: shown}}

    async def _read(self, request: Request) -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._max_request_bytes:
                raise exhausted(f"the request is larger than the {self._max_request_bytes} bytes that are allowed")
            parts.append(part)
        return b"".join(parts)


def _parse(path: str) -> tuple[model_pb2.ModelSpec, str]:
    """Return model and action of a path, such as ``ser/versions/3:predict``."""
    match = _MODEL_PATH.fullmatch(path)
    if not match:
        raise not_found(f"no such path: /v1/models/{path}; use /v1/models/NAME[/versions/N|/labels/L][:predict]")
    spec = model_pb2.ModelSpec(name=match["name"])
    if match["version"]:
        spec.version.value = int(match["version"])
    if match["label"]:
        spec.version_label = match["label"]
    return spec, match["action"] or ""


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}") from error


def _json_endpoint(handle: Callable[[Request], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
    """Wrap ``handle`` in an endpoint that returns results and errors as JSON."""

    async def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(await handle(request))
        except StatusError as error:
            return JSONResponse({"error": error.message}, status_code=_HTTP_STATUS.get(error.status, 500))

    return endpoint
