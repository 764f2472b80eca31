"""How a server is set up: its own options, and TF Serving's configuration files."""

import dataclasses
import os
from pathlib import Path
from typing import TypeVar

from google.protobuf import message, text_format
from tensorflow_serving.config import model_server_config_pb2

from modules.common import addresses
from serving.wire import server_config_pb2

_Config = TypeVar("_Config", bound=message.Message)

METRICS_PATH = "/monitoring/prometheus/metrics"


class ConfigError(ValueError):
    """A configuration file cannot be used; the message names file, value and what is allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What ``ser serve`` takes; names are those of TF Serving's flags where it has the same.

    Attributes:
        host: Interface to listen on; only this machine reaches the default.
        port: For gRPC; 0 takes a free one.
        rest_api_port: For REST and metrics; 0 takes a free one.
        model_name: Name of the model when there is no ``model_config_file``.
        model_base_path: Folder with a numbered folder per version. With a ``model_config_file`` it takes the place of
            the base path of the file's only model, so that one file serves in the container and here.
        model_config_file: ``ModelServerConfig`` in text format.
        batching_parameters_file: ``BatchingParameters`` in text format; without it every request runs alone.
        monitoring_config_file: ``MonitoringConfig`` in text format; without it metrics are exported at TF Serving's
            usual path.
        poll_sec: Time between two looks for new versions.
        max_request_bytes: Larger requests are answered with RESOURCE_EXHAUSTED.
        max_audio_sec: Longer recordings in one request are answered with INVALID_ARGUMENT.
        drain_sec: Time that requests in flight have after SIGTERM.
        tls_certificate_file: PEM; with ``tls_key_file``, both ports speak TLS.
        tls_key_file: PEM.
        request_log_dir: Folder for sampled requests; none are written without it.
        request_log_rate: Share of requests that are written, 0 to 1.
        request_log_max_bytes: Bound on all files of the request log together; the oldest go first.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 8501
    model_name: str = "ser"
    model_base_path: str | os.PathLike[str] | None = None
    model_config_file: Path | None = None
    batching_parameters_file: Path | None = None
    monitoring_config_file: Path | None = None
    poll_sec: float = 1.0
    max_request_bytes: int = 32 * 1024 * 1024
    max_audio_sec: float = 120.0
    drain_sec: float = 10.0
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    request_log_dir: Path | None = None
    request_log_rate: float = 0.01
    request_log_max_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if not self.model_base_path and not self.model_config_file:
            raise ConfigError("give a model_base_path, a model_config_file, or both")
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ConfigError("TLS needs both a certificate file and a key file; only one was given")
        if not 0 <= self.request_log_rate <= 1:
            raise ConfigError(f"request_log_rate is {self.request_log_rate}; it must be between 0 and 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchingOptions:
    """TF Serving's batching parameters; the defaults are those of a server without batching.

    Attributes:
        max_batch_size: Items that run together at most; a single request may be larger.
        timeout_sec: How long an item waits for company while a thread is free.
        max_queued_items: Items that may wait; what comes on top is answered with RESOURCE_EXHAUSTED.
        threads: Batches that run at once.
        allowed_sizes: Batches are filled up to the next of these sizes; any size is fine when empty.
    """

    max_batch_size: int = 1
    timeout_sec: float = 0.0
    max_queued_items: int = 256
    threads: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    allowed_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_queued_items", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"batching: {name} is {getattr(self, name)}; it must be 1 or above")
        if self.allowed_sizes and (
            list(self.allowed_sizes) != sorted(set(self.allowed_sizes)) or self.allowed_sizes[-1] != self.max_batch_size
        ):
            raise ConfigError(
                f"batching: allowed_batch_sizes is {list(self.allowed_sizes)}; it must increase and end with "
                f"max_batch_size, {self.max_batch_size}"
            )


def read_batching(file: Path | None) -> BatchingOptions:
    """Batching as TF Serving reads it; values that the file leaves out are TF Serving's defaults."""
    if file is None:
        return BatchingOptions()
    parameters = _read(file, server_config_pb2.BatchingParameters())
    if parameters.pad_variable_length_inputs:
        raise ConfigError(f"{file}: pad_variable_length_inputs is true; this server supports false only")
    max_batch_size = parameters.max_batch_size.value if parameters.HasField("max_batch_size") else 1000
    queued_batches = parameters.max_enqueued_batches.value if parameters.HasField("max_enqueued_batches") else 10
    cores = len(os.sched_getaffinity(0))
    threads = parameters.num_batch_threads.value if parameters.HasField("num_batch_threads") else cores
    return BatchingOptions(
        max_batch_size=max_batch_size,
        timeout_sec=parameters.batch_timeout_micros.value / 1e6,
        max_queued_items=queued_batches * max_batch_size,
        threads=threads,
        allowed_sizes=tuple(parameters.allowed_batch_sizes),
    )


def read_metrics_path(file: Path | None) -> str | None:
    """Where metrics are exported, or ``None`` when the file switches them off."""
    if file is None:
        return METRICS_PATH
    prometheus = _read(file, server_config_pb2.MonitoringConfig()).prometheus_config
    return (prometheus.path or METRICS_PATH) if prometheus.enable else None


def read_models(options: ServerOptions) -> model_server_config_pb2.ModelServerConfig:
    """The models to serve, from the file or from name and base path."""
    base_path = addresses.absolute(os.fspath(options.model_base_path)) if options.model_base_path else None
    config = model_server_config_pb2.ModelServerConfig()
    if options.model_config_file is None:
        config.model_config_list.config.add(name=options.model_name, base_path=base_path, model_platform="tensorflow")
        return config
    _read(options.model_config_file, config)
    models = config.model_config_list.config
    if base_path:
        if len(models) != 1:
            raise ConfigError(
                f"{options.model_config_file} has {len(models)} models; a model_base_path can only take the place of "
                "the base path of a single one. Leave it out."
            )
        models[0].base_path = base_path
    return config


def _read(file: Path, into: _Config) -> _Config:
    try:
        return text_format.Parse(file.read_text(), into)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except text_format.ParseError as error:
        raise ConfigError(f"{file} is not a {into.DESCRIPTOR.name} in text format: {error}") from error
