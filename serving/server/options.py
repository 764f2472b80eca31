"""Options of the embedded server, and TF Serving's configuration files."""

import os
from pathlib import Path
from typing import Self, TypeVar

from google.protobuf import message, text_format
from pydantic import Field, ValidationError, field_validator, model_validator
from tensorflow_serving.config import model_server_config_pb2

from modules.common import addresses
from modules.common.errors import SerError
from modules.common.files import read_text
from modules.common.settings import Settings, explain
from serving.wire import server_config_pb2

_Config = TypeVar("_Config", bound=message.Message)

METRICS_PATH = "/monitoring/prometheus/metrics"


class ServerConfigError(SerError, ValueError):
    """A configuration file of the server cannot be used."""

    code = "serving.config_file"


class ServerOptions(Settings):
    """Options of ``ser serve``; names are those of TF Serving's flags where it has the same."""

    host: str = Field("127.0.0.1", description="Interface to listen on; only this machine reaches the default.")
    port: int = Field(8500, ge=0, le=65_535, description="Port for gRPC; 0 takes a free one.")
    rest_api_port: int = Field(8501, ge=0, le=65_535, description="Port for REST and metrics; 0 takes a free one.")
    model_name: str = Field("ser", min_length=1, description="Name of the model without a `model_config_file`.")
    model_base_path: str | None = Field(
        None,
        description="Folder, local or gs://, with a numbered folder per version. With a `model_config_file` it takes "
        "the place of the base path of the file's only model, so that one file serves in the container and here.",
    )
    model_config_file: Path | None = Field(None, description="`ModelServerConfig` in text format.")
    public_key: str | None = Field(
        None,
        description="Address of an Ed25519 public key in PEM, local or gs://; versions that it did not sign are not "
        "loaded.",
    )
    batching_parameters_file: Path | None = Field(
        None, description="`BatchingParameters` in text format; without it every request runs alone."
    )
    monitoring_config_file: Path | None = Field(
        None, description="`MonitoringConfig` in text format; without it metrics are at TF Serving's usual path."
    )
    poll_sec: float = Field(1.0, gt=0, description="Interval in seconds of the checks for new versions.")
    max_request_bytes: int = Field(32 * 1024 * 1024, ge=1, description="Larger requests get RESOURCE_EXHAUSTED.")
    max_audio_sec: float = Field(
        120.0, gt=0, description="Longer recordings in seconds in one request get INVALID_ARGUMENT."
    )
    drain_sec: float = Field(10.0, ge=0, description="Seconds that requests in flight have after SIGTERM.")
    tls_certificate_file: Path | None = Field(None, description="PEM; with `tls_key_file`, both ports use TLS.")
    tls_key_file: Path | None = Field(None, description="PEM.")
    request_log_dir: Path | None = Field(None, description="Folder for sampled requests; without it none are written.")
    request_log_rate: float = Field(0.01, ge=0, le=1, description="Share of requests that are written.")
    request_log_max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1,
        description="Largest size of all files of the request log, in bytes; the oldest are deleted first.",
    )
    request_log_max_days: float | None = Field(
        None,
        gt=0,
        description="Age in days at which entries of the request log are deleted; without it by size.",
    )

    @field_validator("model_base_path", mode="before")
    @classmethod
    def _take_paths(cls, value: object) -> object:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator("model_name", "model_base_path")
    @classmethod
    def _require_utf8(cls, value: str | None) -> str | None:
        """Refuse a name that TF Serving's configuration cannot hold."""
        if value is not None and value != value.encode(errors="replace").decode():
            raise ValueError("allowed: a text in UTF-8")
        return value

    @model_validator(mode="after")
    def _require_model(self) -> Self:
        if not self.model_base_path and not self.model_config_file:
            raise ValueError("neither model_base_path nor model_config_file is set; allowed: one of them, or both")
        return self

    @model_validator(mode="after")
    def _require_both_or_no_tls_files(self) -> Self:
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("only one of tls_certificate_file and tls_key_file is set; allowed: both, or none")
        return self


class BatchingOptions(Settings):
    """TF Serving's batching parameters, with its defaults."""

    max_batch_size: int = Field(1000, ge=1, description="Most items of a batch, and of a request.")
    timeout_sec: float = Field(
        0.0, ge=0, description="Seconds that a batch waits for further requests while a thread is free."
    )
    max_enqueued_batches: int = Field(
        10, ge=1, description="Batches of one signature that may wait; further requests get UNAVAILABLE."
    )
    threads: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)), ge=1, description="Batches that run at once."
    )
    allowed_sizes: tuple[int, ...] = Field(
        (), description="Batches are filled up to the next of these sizes; any size is fine when empty."
    )

    @model_validator(mode="after")
    def _require_increasing_sizes(self) -> Self:
        sizes = list(self.allowed_sizes)
        if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ValueError(
                f"allowed_sizes is {sizes}; allowed: increasing sizes that end with max_batch_size, "
                f"{self.max_batch_size}"
            )
        return self


def read_batching(file: Path | None) -> BatchingOptions | None:
    """Return the batching parameters of a file; ``None`` without a file, which switches batching off.

    Args:
        file: ``BatchingParameters`` in text format.

    Raises:
        ServerConfigError: The file cannot be used.
    """
    if file is None:
        return None
    parameters = _read(file, server_config_pb2.BatchingParameters())
    if parameters.pad_variable_length_inputs:
        raise ServerConfigError(f"{file}: pad_variable_length_inputs is true; this server supports false only")
    given = {
        "max_batch_size": "max_batch_size",
        "max_enqueued_batches": "max_enqueued_batches",
        "threads": "num_batch_threads",
    }
    values = {name: getattr(parameters, field).value for name, field in given.items() if parameters.HasField(field)}
    try:
        return BatchingOptions(
            timeout_sec=parameters.batch_timeout_micros.value / 1e6,
            allowed_sizes=tuple(parameters.allowed_batch_sizes),
            **values,
        )
    except ValidationError as error:
        raise ServerConfigError(f"{file}: {explain(error, BatchingOptions)}") from None


def read_metrics_path(file: Path | None) -> str | None:
    """Return the path of the metrics page; ``None`` when the file switches it off.

    Args:
        file: ``MonitoringConfig`` in text format; ``None`` selects TF Serving's usual path.

    Raises:
        ServerConfigError: The file cannot be used.
    """
    if file is None:
        return METRICS_PATH
    prometheus = _read(file, server_config_pb2.MonitoringConfig()).prometheus_config
    return (prometheus.path or METRICS_PATH) if prometheus.enable else None


def read_models(options: ServerOptions) -> model_server_config_pb2.ModelServerConfig:
    """Return the models to serve, from the file or from name and base path.

    Args:
        options: Options of the server.

    Raises:
        ServerConfigError: The file cannot be used.
    """
    base_path = addresses.absolute(os.fspath(options.model_base_path)) if options.model_base_path else None
    config = model_server_config_pb2.ModelServerConfig()
    if options.model_config_file is None:
        config.model_config_list.config.add(name=options.model_name, base_path=base_path, model_platform="tensorflow")
        return config
    _read(options.model_config_file, config)
    models = config.model_config_list.config
    if base_path:
        if len(models) != 1:
            raise ServerConfigError(
                f"{options.model_config_file} has {len(models)} models; a model_base_path can only take the place of "
                "the base path of a single one. Leave it out."
            )
        models[0].base_path = base_path
    return config


def _read(file: Path, into: _Config) -> _Config:
    try:
        return text_format.Parse(read_text(file), into)
    except OSError as error:
        raise ServerConfigError(f"cannot read {file}: {error.strerror}") from error
    except text_format.ParseError as error:
        raise ServerConfigError(f"{file} is not a {into.DESCRIPTOR.name} in text format: {error}") from error
