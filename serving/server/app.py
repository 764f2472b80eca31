"""The embedded server: start, listening ports, drain."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.server import memory
from serving.server.batching import BatchScheduler
from serving.server.descriptions import SERVICES, describe_services
from serving.server.errors import StatusError
from serving.server.grpc_services import ModelService, PredictionService
from serving.server.handler import Handler
from serving.server.manager import ModelManager
from serving.server.metrics import Metrics
from serving.server.options import ServerOptions, read_batching, read_metrics_path, read_models
from serving.server.request_log import RequestLog
from serving.server.rest import make_app

_LOG = logging.getLogger(__name__)

_HEALTH_OF = ("", *SERVICES)


class Server:
    """Embedded server on the running event loop.

    Args:
        options: Options of the server.

    Attributes:
        port: Port of gRPC, after :meth:`start`.
        rest_api_port: Port of REST, after :meth:`start`.
        scheduler: Scheduler that runs the models.

    Raises:
        ServerConfigError: The options or a configuration file cannot be used.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._models = read_models(options)
        self._metrics_path = read_metrics_path(options.monitoring_config_file)
        self._metrics = Metrics()
        self.scheduler = BatchScheduler(read_batching(options.batching_parameters_file), self._metrics)
        self._manager = ModelManager(self._metrics, poll_sec=options.poll_sec, public_key=options.public_key)
        self._request_log = RequestLog(
            options.request_log_dir,
            rate=options.request_log_rate,
            max_bytes=options.request_log_max_bytes,
            max_age_sec=options.request_log_max_days and options.request_log_max_days * 86_400,
            metrics=self._metrics,
        )
        self._handler = Handler(
            self._manager,
            self.scheduler,
            self._metrics,
            self._request_log,
            max_audio_sec=options.max_audio_sec,
        )
        self._health = health.aio.HealthServicer()
        self._poll_task: asyncio.Task[None] | None = None
        self.port = 0
        self.rest_api_port = 0

    async def start(self) -> None:
        """Listen, then load the models; return when they answer.

        Raises:
            OSError: A port is taken.
            StatusError: A model cannot be loaded.
        """
        rest_socket = self._bind_rest()
        self._grpc = self._make_grpc()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._grpc.start()
        self._rest = _EmbeddedUvicorn(self._rest_config())
        self._rest_task = asyncio.create_task(self._rest.serve([rest_socket]))
        try:
            await self._manager.apply(self._models)
        except StatusError:
            await self.stop()
            raise
        self._poll_task = asyncio.create_task(self._manager.poll())
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Refuse new requests, wait for those in flight up to the drain time, and close the ports."""
        await self._health.enter_graceful_shutdown()
        if self._poll_task:
            self._poll_task.cancel()
        self._rest.should_exit = True
        await asyncio.gather(self._grpc.stop(self._options.drain_sec), self._rest_task)
        self.scheduler.close()
        await asyncio.to_thread(self._request_log.close)

    def _make_grpc(self) -> grpc.aio.Server:
        options = self._options
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", options.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake and must fail
            ]
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self._handler, max_items=options.max_request_bytes), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._handler), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        describe_services()
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        address = f"{_in_url(options.host)}:{options.port}"
        credentials = _credentials(options.tls_certificate_file, options.tls_key_file)
        self.port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        return server

    def _bind_rest(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._options.host else socket.AF_INET
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self._options.host, self._options.rest_api_port))
        self.rest_api_port = bound.getsockname()[1]
        return bound

    def _rest_config(self) -> uvicorn.Config:
        options = self._options
        return uvicorn.Config(
            make_app(self._handler, metrics_path=self._metrics_path, max_request_bytes=options.max_request_bytes),
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(options.drain_sec),
            ssl_certfile=options.tls_certificate_file,
            ssl_keyfile=options.tls_key_file,
        )

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in _HEALTH_OF:
            await self._health.set(service, status)


async def serve(options: ServerOptions) -> None:
    """Run a server until SIGTERM or SIGINT, then drain it.

    Args:
        options: Options of the server.
    """
    memory.exclude_imported_objects()
    server = Server(options)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await server.start()
    _LOG.info(
        "serving on %s: gRPC on port %d, REST and metrics on port %d", options.host, server.port, server.rest_api_port
    )
    await stopping.wait()
    _LOG.info("draining for up to %g s", options.drain_sec)
    await server.stop()


class _EmbeddedUvicorn(uvicorn.Server):
    """Uvicorn without signal handlers, which :func:`serve` sets."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _credentials(certificate_file: Path | None, key_file: Path | None) -> grpc.ServerCredentials | None:
    if not certificate_file or not key_file:
        return None
    return grpc.ssl_server_credentials([(key_file.read_bytes(), certificate_file.read_bytes())])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
