"""A Vertex AI endpoint that runs TF Serving, over RawPredict.

RawPredict hands the body of a request to the container's predict route, which is TF Serving's REST interface, on shared
and on dedicated endpoints alike. Its response names the deployment that answered. `google-cloud-aiplatform` takes
seconds to import and is imported only when an address names an endpoint.
"""

import re
import time
from collections.abc import Iterable, Mapping

import grpc
import requests
from google.api_core import exceptions, retry
from google.auth import exceptions as auth_exceptions
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as vertex

from serving.client.errors import RequestFailed, ServerUnreachable
from serving.client.transport import Transport
from serving.client.transport.rest import from_json, to_json
from serving.wire import predict_pb2 as wire

SHARED_MAX_BODY_BYTES = 1_500_000
DEDICATED_MAX_BODY_BYTES = 10_000_000
"""Limits of one RawPredict request: 1.5 MB and 10 MB, by Google's table "Choose an endpoint type"."""

_DEPLOYED_MODEL_ID = "X-Vertex-AI-Deployed-Model-Id"
_VERSION = re.compile(r"[0-9]{1,10}")
_HEADERS = {"Content-Type": "application/json"}
_JSON_BYTES = 4_000  # of a request, without the recordings
_MIN_TIMEOUT_SEC = 0.001
_RETRY = retry.Retry(
    predicate=retry.if_exception_type(ServerUnreachable), initial=0.1, multiplier=2, maximum=1, timeout=2
)


def connect_vertex(project: str, region: str, endpoint_id: str) -> Transport:
    """Return a transport to an endpoint.

    Args:
        project: Google Cloud project.
        region: Region of the endpoint.
        endpoint_id: ID of the endpoint.

    Raises:
        RequestFailed: The endpoint does not exist, or the caller lacks the permission to read it.
    """
    try:
        return VertexTransport(aiplatform.Endpoint(endpoint_id, project=project, location=region))
    except (exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError) as error:
        raise _failed(error) from error


class VertexTransport:
    """A :class:`serving.client.transport.Transport` to one endpoint.

    A rollout names each deployment by its version. The version of a deployment with another name is unknown.
    """

    def __init__(self, endpoint: aiplatform.Endpoint) -> None:
        self._endpoint = endpoint
        resource = endpoint.gca_resource
        self._is_dedicated = resource.dedicated_endpoint_enabled
        self._max_body_bytes = DEDICATED_MAX_BODY_BYTES if self._is_dedicated else SHARED_MAX_BODY_BYTES
        self.max_request_bytes = (self._max_body_bytes - _JSON_BYTES) * 3 // 4  # base64 makes 4 bytes of 3
        self._versions = _versions_by_id(resource.deployed_models)

    def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        """See :meth:`serving.client.transport.Transport.predict`."""
        body = to_json(request)
        self._require_small(len(body))
        deadline_sec = time.monotonic() + timeout_sec
        try:
            return _RETRY(self._send)(body, deadline_sec)
        except exceptions.RetryError as error:
            raise _failed(error.cause or error) from error

    def close(self) -> None:
        """Do nothing: the SDK owns the session."""

    def _require_small(self, body_bytes: int) -> None:
        if body_bytes <= self._max_body_bytes:
            return
        kind = "dedicated" if self._is_dedicated else "shared"
        raise RequestFailed.of(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the request has {body_bytes} bytes as JSON; RawPredict takes at most {SHARED_MAX_BODY_BYTES} on a shared "
            f"endpoint and {DEDICATED_MAX_BODY_BYTES} on a dedicated one, and {self._endpoint.name} is {kind}. Send a "
            "shorter recording, lower its sample rate, or call timeline(), which sends a recording in parts",
        )

    def _send(self, body: bytes, deadline_sec: float) -> wire.PredictResponse:
        timeout_sec = max(_MIN_TIMEOUT_SEC, deadline_sec - time.monotonic())
        try:
            answer = self._endpoint.raw_predict(body, _HEADERS, timeout=timeout_sec)
            version = self._version_of(answer.headers.get(_DEPLOYED_MODEL_ID))
        except requests.Timeout as error:
            raise RequestFailed.of(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer in {timeout_sec:.3g} s") from error
        except (
            requests.RequestException,
            exceptions.GoogleAPIError,
            auth_exceptions.GoogleAuthError,
            ValueError,  # the SDK, while a dedicated endpoint has no DNS name yet
        ) as error:
            raise _failed(error) from error
        response = from_json(answer.status_code, answer.content)
        if version is not None:
            response.model_spec.version.value = version
        return response

    def _version_of(self, deployed_id: str | None) -> int | None:
        """Return the version of a deployment; read the endpoint again if the deployment is new."""
        if deployed_id is not None and deployed_id not in self._versions:
            self._versions = {deployed_id: None, **_versions_by_id(self._endpoint.list_models())}
        return self._versions[deployed_id] if deployed_id is not None else None


def _versions_by_id(deployed: Iterable[vertex.DeployedModel]) -> Mapping[str, int | None]:
    return {one.id: int(one.display_name) if _VERSION.fullmatch(one.display_name) else None for one in deployed}


def _failed(error: Exception) -> RequestFailed:
    if isinstance(error, RequestFailed):
        return error
    if isinstance(error, exceptions.GoogleAPICallError):
        return RequestFailed.of(error.grpc_status_code or grpc.StatusCode.UNKNOWN, error.message)
    if isinstance(error, auth_exceptions.GoogleAuthError):
        return RequestFailed.of(grpc.StatusCode.UNAUTHENTICATED, str(error))
    return RequestFailed.of(grpc.StatusCode.UNAVAILABLE, str(error))
