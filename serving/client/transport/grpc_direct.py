"""gRPC straight to TF Serving or the embedded server."""

import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from modules.common import proxies
from serving.client.errors import RequestFailed
from serving.wire import predict_pb2 as wire

PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"

_MAX_REQUEST_BYTES = 32 * 1024 * 1024
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "tensorflow.serving.PredictionService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                # No other code: such a call would fail again, or increase an overload.
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = [
    ("grpc.service_config", json.dumps(_RETRIES)),
    # gRPC silently does not retry requests larger than this buffer, 256 KiB by default.
    ("grpc.per_rpc_retry_buffer_size", _MAX_REQUEST_BYTES),
    # The channel must reconnect before the retry of a request.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
]


def _options(target: str) -> list[tuple[str, Any]]:
    return [*_OPTIONS, proxies.grpc_option(target)]


class GrpcTransport:
    """A :class:`serving.client.transport.Transport` over one channel."""

    max_request_bytes = _MAX_REQUEST_BYTES

    def __init__(self, target: str, *, tls: bool, ca_file: Path | None) -> None:
        if tls:
            self._channel = grpc.secure_channel(target, _credentials(ca_file), options=_options(target))
        else:
            self._channel = grpc.insecure_channel(target, options=_options(target))
        self._target = target
        self._predict = self._channel.unary_unary(
            PREDICT_METHOD, wire.PredictRequest.SerializeToString, wire.PredictResponse.FromString
        )

    def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        """See :meth:`serving.client.transport.Transport.predict`."""
        try:
            return self._predict(request, timeout=timeout_sec)
        except grpc.RpcError as error:
            raise _failed(error, self._target) from error

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


class AsyncGrpcTransport:
    """A :class:`serving.client.transport.AsyncTransport` over one channel."""

    max_request_bytes = _MAX_REQUEST_BYTES

    def __init__(self, target: str, *, tls: bool, ca_file: Path | None) -> None:
        if tls:
            self._channel = grpc.aio.secure_channel(target, _credentials(ca_file), options=_options(target))
        else:
            self._channel = grpc.aio.insecure_channel(target, options=_options(target))
        self._target = target
        self._predict = self._channel.unary_unary(
            PREDICT_METHOD, wire.PredictRequest.SerializeToString, wire.PredictResponse.FromString
        )

    async def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        """See :meth:`serving.client.transport.Transport.predict`."""
        try:
            return await self._predict(request, timeout=timeout_sec)
        except grpc.aio.AioRpcError as error:
            raise _failed(error, self._target) from error

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


def _failed(error: Any, target: str) -> RequestFailed:
    """Return the error of a call, with the proxy if nothing answers."""
    details = error.details() or ""
    proxy = proxies.proxy_of(proxies.host_of(target), proxies.GRPC_VARIABLES)
    if error.code() is grpc.StatusCode.UNAVAILABLE and proxy:
        details += proxy.note
    return RequestFailed.of(error.code(), details)


def _credentials(ca_file: Path | None) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(ca_file.read_bytes() if ca_file else None)
