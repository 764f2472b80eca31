"""A Vertex AI endpoint that runs TF Serving.

No stub of TF Serving's reaches such an endpoint: its gRPC front accepts DirectRawPredict alone, which carries method
name and request as bytes. Dedicated endpoints do not even accept that; there the request goes as JSON through
RawPredict, which does not tell the model's version. `google-cloud-aiplatform` takes seconds to import and is imported
only when an address asks for it.
"""

import grpc
import requests
from google.api_core import exceptions, retry
from google.auth import exceptions as auth_exceptions
from google.cloud import aiplatform

from serving.client.errors import RequestFailed
from serving.client.transport import Transport
from serving.client.transport.grpc_direct import PREDICT_METHOD
from serving.client.transport.rest import from_json, to_json
from serving.wire import predict_pb2 as wire

_MAX_REQUEST_BYTES = 1_500_000  # a limit of the service
_RETRY = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable), initial=0.1, multiplier=2, maximum=1, timeout=2
)


def connect_vertex(project: str, region: str, endpoint_id: str) -> Transport:
    """Finds the endpoint, and the way that it can be asked.

    Raises:
        RequestFailed: No such endpoint, or no permission to see it.
    """
    try:
        endpoint = aiplatform.Endpoint(endpoint_id, project=project, location=region)
        dedicated = endpoint.gca_resource.dedicated_endpoint_enabled
    except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError) as error:
        raise _failed(error) from error
    return VertexRestTransport(endpoint) if dedicated else VertexTransport(endpoint)


class VertexTransport:
    """A :class:`serving.client.transport.Transport` over gRPC, for shared public endpoints."""

    max_request_bytes = _MAX_REQUEST_BYTES

    def __init__(self, endpoint: aiplatform.Endpoint) -> None:
        self._endpoint = endpoint

    def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        ask = _RETRY(self._endpoint.direct_raw_predict)
        try:
            answer = ask(method_name=PREDICT_METHOD, request=request.SerializeToString(), timeout=timeout_sec)
        except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError) as error:
            raise _failed(error) from error
        return wire.PredictResponse.FromString(answer.predictions)

    def close(self) -> None:
        """The SDK owns the channel."""


class VertexRestTransport:
    """A :class:`serving.client.transport.Transport` over HTTP, for dedicated endpoints."""

    max_request_bytes = _MAX_REQUEST_BYTES * 3 // 4  # base64 makes 4 bytes of 3

    def __init__(self, endpoint: aiplatform.Endpoint) -> None:
        self._endpoint = endpoint

    def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._endpoint.raw_predict(to_json(request), headers, timeout=timeout_sec)
        except requests.Timeout as error:
            raise RequestFailed.of(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer in {timeout_sec} s") from error
        except (requests.RequestException, auth_exceptions.GoogleAuthError) as error:
            raise _failed(error) from error
        return from_json(answer.status_code, answer.content)

    def close(self) -> None:
        """The SDK owns the session."""


def _failed(error: Exception) -> RequestFailed:
    if isinstance(error, exceptions.GoogleAPICallError):
        return RequestFailed.of(error.grpc_status_code or grpc.StatusCode.UNKNOWN, error.message)
    if isinstance(error, auth_exceptions.GoogleAuthError):
        return RequestFailed.of(grpc.StatusCode.UNAUTHENTICATED, str(error))
    return RequestFailed.of(grpc.StatusCode.UNAVAILABLE, str(error))
