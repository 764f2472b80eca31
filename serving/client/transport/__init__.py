"""Transports to a model, chosen by the form of the address.

============================================  =====================================================================
``HOST:PORT``                                 gRPC, unencrypted: the same machine, or a network that is trusted
``grpcs://HOST:PORT``                         gRPC over TLS
``http://HOST:PORT``, ``https://HOST:PORT``   TF Serving's REST interface
``vertex://PROJECT/REGION/ENDPOINT``          a Vertex AI endpoint
============================================  =====================================================================
"""

import asyncio
import re
from pathlib import Path
from typing import Protocol

from modules.common.ports import PORT
from serving.client.errors import AddressError
from serving.wire import predict_pb2 as wire

DEFAULT_ADDRESS = "localhost:8500"

_VERTEX = re.compile(r"vertex://(?P<project>[^/]+)/(?P<region>[a-z0-9-]+)/(?P<endpoint>[^/]+)")
_HOST_AND_PORT = re.compile(rf"(?P<tls>grpcs://)?(?P<target>(?:\[[0-9a-fA-F:]+\]|[^/:\[\]\s]+):{PORT})")
_REST = re.compile(rf"https?://([^/?#@\s]+@)?(\[[0-9a-fA-F:]+\]|[^/:\[\]?#@\s]+)(:{PORT})?(/[^?#\s]*)?")


class Transport(Protocol):
    """Connection to one server.

    Attributes:
        max_request_bytes: Largest request that the transport, or the service behind it, accepts.
    """

    max_request_bytes: int

    def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        """Send a request and return the response.

        Args:
            request: The request.
            timeout_sec: Deadline in seconds, retries included.

        Raises:
            RequestFailed: The server refused, or did not answer.
        """

    def close(self) -> None:
        """Close the connection."""


class AsyncTransport(Protocol):
    """:class:`Transport` for an event loop."""

    max_request_bytes: int

    async def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        """Send a request and return the response.

        Args:
            request: The request.
            timeout_sec: Deadline in seconds, retries included.

        Raises:
            RequestFailed: The server refused, or did not answer.
        """

    async def close(self) -> None:
        """Close the connection."""


class Threaded:
    """:class:`AsyncTransport` that runs a blocking :class:`Transport` in threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.max_request_bytes = transport.max_request_bytes

    async def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        """See :meth:`Transport.predict`."""
        return await asyncio.to_thread(self._transport.predict, request, timeout_sec=timeout_sec)

    async def close(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._transport.close)


def require_known(address: str) -> None:
    """Require one of the forms in the module's table.

    Args:
        address: Address of a server.

    Raises:
        AddressError: The address has none of them.
    """
    if not any(form.fullmatch(address) for form in (_HOST_AND_PORT, _REST, _VERTEX)):
        raise AddressError(
            f"cannot use address {address!r}; known forms are HOST:PORT, grpcs://HOST:PORT, http(s)://HOST[:PORT] and "
            "vertex://PROJECT/REGION/ENDPOINT, with a port of 1 to 65535"
        )


def connect(address: str, *, ca_file: Path | None = None) -> Transport:
    """Return a transport to ``address``; no request is sent yet.

    Args:
        address: One of the forms in the module's table.
        ca_file: Certificates in PEM to trust over TLS, in place of the system's.

    Raises:
        AddressError: The address has none of the known forms.
        RequestFailed: The Vertex AI endpoint does not exist, or is not accessible.
    """
    require_known(address)
    if direct := _HOST_AND_PORT.fullmatch(address):
        from serving.client.transport.grpc_direct import GrpcTransport

        return GrpcTransport(direct["target"], tls=bool(direct["tls"]), ca_file=ca_file)
    return _connect_blocking(address, ca_file)


def connect_async(address: str, *, ca_file: Path | None = None) -> AsyncTransport:
    """Return what :func:`connect` returns, for an event loop.

    Args:
        address: See :func:`connect`.
        ca_file: See :func:`connect`.
    """
    require_known(address)
    if direct := _HOST_AND_PORT.fullmatch(address):
        from serving.client.transport.grpc_direct import AsyncGrpcTransport

        return AsyncGrpcTransport(direct["target"], tls=bool(direct["tls"]), ca_file=ca_file)
    return Threaded(_connect_blocking(address, ca_file))


def _connect_blocking(address: str, ca_file: Path | None) -> Transport:
    if vertex := _VERTEX.fullmatch(address):
        from serving.client.transport.vertex import connect_vertex

        return connect_vertex(vertex["project"], vertex["region"], vertex["endpoint"])
    from serving.client.transport.rest import RestTransport

    return RestTransport(address, ca_file=ca_file)
