"""TF Serving's REST interface, for networks that only allow HTTP."""

import base64
import json
import ssl
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np

from modules.common import proxies
from serving.client.errors import AddressError, RequestFailed, UnexpectedAnswer
from serving.client.predictions import tensor_values
from serving.wire import predict_pb2 as wire

_MAX_REQUEST_BYTES = 24 * 1024 * 1024  # base64 makes 32 MiB of it
_CONNECTION_RETRIES = 3
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class RestTransport:
    """A :class:`serving.client.transport.Transport` over HTTP."""

    max_request_bytes = _MAX_REQUEST_BYTES

    def __init__(self, base_url: str, *, ca_file: Path | None) -> None:
        verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        url = httpx.URL(base_url)
        self._proxy = proxies.proxy_of(url.host, proxies.rest_variables(url.scheme))
        transport = _http_transport(verify, self._proxy)
        self._http = httpx.Client(base_url=base_url, transport=transport)

    def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        """See :meth:`serving.client.transport.Transport.predict`."""
        try:
            answer = self._http.post(_path(request.model_spec), content=to_json(request), timeout=timeout_sec)
        except httpx.TimeoutException as error:
            raise RequestFailed.of(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer in {timeout_sec} s") from error
        except httpx.TransportError as error:
            note = self._proxy.note if self._proxy else ""
            raise RequestFailed.of(grpc.StatusCode.UNAVAILABLE, f"{error}{note}") from error
        return from_json(answer.status_code, answer.content)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _http_transport(verify: ssl.SSLContext | bool, proxy: proxies.Proxy | None) -> httpx.HTTPTransport:
    try:
        return httpx.HTTPTransport(verify=verify, retries=_CONNECTION_RETRIES, proxy=proxy.url if proxy else None)
    except (ValueError, ImportError) as error:  # an unknown scheme, or SOCKS without its package
        raise AddressError(f"the proxy {proxy.url if proxy else ''} cannot be used: {error}") from error


def to_json(request: wire.PredictRequest) -> bytes:
    """Return the request in TF Serving's columnar JSON.

    Args:
        request: The request.
    """
    inputs = {name: _json_of(tensor_values(tensor)) for name, tensor in request.inputs.items()}
    return json.dumps({"signature_name": request.model_spec.signature_name, "inputs": inputs}).encode()


def from_json(http_status: int, body: bytes) -> wire.PredictResponse:
    """Return the response as a message.

    Args:
        http_status: Status of the HTTP response.
        body: Body of the HTTP response.

    Raises:
        RequestFailed: The response is an error.
        UnexpectedAnswer: The response is not that of TF Serving's REST interface.
    """
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if http_status != httpx.codes.OK:
        raise _refused(http_status, content, body)
    if not isinstance(content, dict) or not isinstance(content.get("outputs"), dict):
        raise UnexpectedAnswer("the answer has no 'outputs'; the address must be that of TF Serving's REST interface")
    return wire.PredictResponse(outputs={name: _tensor(values) for name, values in content["outputs"].items()})


def _refused(http_status: int, content: Any, body: bytes) -> RequestFailed:
    """Read TF Serving's ``{"error": TEXT}``, or ``{"error": {"status": CODE, "message": TEXT}}`` of Google's APIs."""
    details = content.get("error") if isinstance(content, dict) else None
    code = _CODES.get(http_status, grpc.StatusCode.UNKNOWN)
    if isinstance(details, dict):
        code = getattr(grpc.StatusCode, str(details.get("status")), code)
        details = details.get("message")
    return RequestFailed.of(code, f"{details or body.decode(errors='replace')} (HTTP {http_status})")


def _json_of(values: np.ndarray) -> Any:
    """Return nested lists as TF Serving parses them: bytes in base64, float32 with no more digits than it has."""
    if values.dtype == object:
        return [_json_of(row) if isinstance(row, np.ndarray) else _base64(row) for row in values]
    if values.dtype == np.float32:
        values = values.astype(str).astype(np.float64)
    return values.tolist()


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _path(model: wire.ModelSpec) -> str:
    path = f"/v1/models/{_quoted(model.name)}"
    if model.HasField("version"):
        path += f"/versions/{model.version.value}"
    elif model.HasField("version_label"):
        path += f"/labels/{_quoted(model.version_label)}"
    return f"{path}:predict"


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _tensor(values: Sequence[Any]) -> wire.TensorProto:
    array = np.array(values)
    if array.dtype.kind == "U":
        tensor = wire.TensorProto(dtype=wire.DT_STRING, string_val=[text.encode() for text in array.ravel()])
    elif array.dtype.kind == "i":  # TF Serving writes a whole float as 1.0
        tensor = wire.TensorProto(dtype=wire.DT_INT32, int_val=array.ravel())
    else:
        tensor = wire.TensorProto(dtype=wire.DT_FLOAT, float_val=array.ravel())
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor
