"""Command line of the server, for ``ser serve`` and ``python -m serving.server``."""

import asyncio
import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from modules.common import addresses, ports
from modules.common.errors import SerError
from modules.common.files import require_file
from modules.common.native_output import discarded_native_stderr
from modules.common.settings import explain
from serving.server.options import ServerConfigError, ServerOptions, read_batching, read_metrics_path, read_models

DEFAULT_BASE_PATH = "output/serving"

_DEFAULTS = ServerOptions(model_base_path=DEFAULT_BASE_PATH)


class CannotServe(SerError):
    """The server did not start."""

    code = "serving.not_started"


class UnusableOptions(CannotServe):
    """An option of the server, the folder of versions or a port cannot be used."""

    code = "serving.unusable_options"


def serve(
    model_base_path: Annotated[
        str | None,
        typer.Option(
            help="Folder, local or gs://, with a numbered folder per version.", show_default=DEFAULT_BASE_PATH
        ),
    ] = None,
    model_name: Annotated[str, typer.Option(help="Name to serve the model under.")] = _DEFAULTS.model_name,
    model_config_file: Annotated[Path | None, typer.Option(help="TF Serving's models.config.")] = None,
    public_key: Annotated[
        str | None,
        typer.Option(
            help="Ed25519 public key in PEM, local or gs://; versions that it did not sign are not loaded.",
            show_default="signatures are not checked",
        ),
    ] = None,
    batching_parameters_file: Annotated[
        Path | None, typer.Option(help="TF Serving's batching parameters.", show_default="no batching")
    ] = None,
    monitoring_config_file: Annotated[
        Path | None, typer.Option(help="TF Serving's monitoring configuration.", show_default="metrics are exported")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Interface to listen on; the default is reached from this machine alone.")
    ] = _DEFAULTS.host,
    port: Annotated[int, typer.Option(help="Port for gRPC.")] = _DEFAULTS.port,
    rest_api_port: Annotated[int, typer.Option(help="Port for REST and metrics.")] = _DEFAULTS.rest_api_port,
    max_audio_sec: Annotated[
        float, typer.Option(help="Longest recording in one request, in seconds.")
    ] = _DEFAULTS.max_audio_sec,
    max_request_mb: Annotated[int, typer.Option(help="Largest request, in MiB.")] = _DEFAULTS.max_request_bytes >> 20,
    drain_sec: Annotated[
        float, typer.Option(help="Seconds that requests in flight have after SIGTERM.")
    ] = _DEFAULTS.drain_sec,
    tls_certificate_file: Annotated[Path | None, typer.Option(help="PEM; switches TLS on.")] = None,
    tls_key_file: Annotated[Path | None, typer.Option(help="PEM.")] = None,
    request_log_dir: Annotated[
        Path | None, typer.Option(help="Folder for sampled requests.", show_default="none are written")
    ] = None,
    request_log_rate: Annotated[float, typer.Option(help="Share of requests to write.")] = _DEFAULTS.request_log_rate,
    request_log_max_mb: Annotated[
        int, typer.Option(help="Largest size of the request log, in MiB; the oldest entries are deleted first.")
    ] = _DEFAULTS.request_log_max_bytes >> 20,
    request_log_max_days: Annotated[
        float | None,
        typer.Option(help="Age in days at which entries are deleted.", show_default="no limit"),
    ] = None,
    end_with_parent: Annotated[bool, typer.Option("--end-with-parent", hidden=True)] = False,
) -> None:
    """Serve a pushed model as TF Serving does, for development. New versions are picked up while it runs."""
    if end_with_parent:
        _end_with_parent()
    base_path = model_base_path or (None if model_config_file else DEFAULT_BASE_PATH)
    try:
        options = ServerOptions(
            host=host,
            port=port,
            rest_api_port=rest_api_port,
            model_name=model_name,
            model_base_path=base_path,
            model_config_file=model_config_file,
            public_key=public_key,
            batching_parameters_file=batching_parameters_file,
            monitoring_config_file=monitoring_config_file,
            max_request_bytes=max_request_mb << 20,
            max_audio_sec=max_audio_sec,
            drain_sec=drain_sec,
            tls_certificate_file=tls_certificate_file,
            tls_key_file=tls_key_file,
            request_log_dir=request_log_dir,
            request_log_rate=request_log_rate,
            request_log_max_bytes=request_log_max_mb << 20,
            request_log_max_days=request_log_max_days,
        )
    except ValidationError as error:
        raise UnusableOptions(f"cannot serve: {explain(error, ServerOptions)}") from error
    if base_path:
        require_folder(base_path)
    _require_files(options)
    _require_free_ports(options)
    _run(options)


def _run(options: ServerOptions) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # Imported here: TensorFlow takes seconds to import, and reads the variable above.
    with discarded_native_stderr():
        import tensorflow as tf

        tf.config.list_logical_devices()  # CUDA's start writes there, too

    from serving.server import app as server
    from serving.server.errors import StatusError

    tf.get_logger().setLevel(logging.ERROR)  # it warns that its session loader, which TF Serving uses, is old
    try:
        asyncio.run(server.serve(options))
    except ServerConfigError as error:
        raise UnusableOptions(f"cannot serve: {error}") from error
    except (StatusError, OSError, RuntimeError) as error:  # gRPC's RuntimeError: a port that was taken just now
        raise CannotServe(f"cannot serve: {error}") from error


def _require_files(options: ServerOptions) -> None:
    """Require the files of the options, before TensorFlow is loaded."""
    try:
        read_models(options)
        read_batching(options.batching_parameters_file)
        read_metrics_path(options.monitoring_config_file)
    except ServerConfigError as error:
        raise UnusableOptions(f"cannot serve: {error}") from error
    _require_tls(options.tls_certificate_file, options.tls_key_file)
    folder = options.request_log_dir
    if folder is not None and os.path.lexists(folder) and not folder.is_dir():
        raise UnusableOptions(f"cannot serve: --request-log-dir {folder} is not a folder; name another")


def _require_tls(certificate_file: Path | None, key_file: Path | None) -> None:
    if certificate_file is None or key_file is None:
        return
    try:
        for file in (certificate_file, key_file):
            require_file(file)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_file, key_file, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError among them
        reason = "they are not a certificate and its key" if isinstance(error, ssl.SSLError) else error
        raise UnusableOptions(
            f"cannot serve: --tls-certificate-file {certificate_file} and --tls-key-file {key_file}: {reason}; name a "
            "certificate and its unencrypted key, both in PEM"
        ) from error


def _require_free_ports(options: ServerOptions) -> None:
    """Require ports that nothing listens on, before TensorFlow is loaded."""
    if options.port and options.port == options.rest_api_port:
        raise UnusableOptions(
            f"cannot serve: --port and --rest-api-port are both {options.port}; give two different ports"
        )
    if refusal := ports.refusal(options.host, {"--port": options.port, "--rest-api-port": options.rest_api_port}):
        raise UnusableOptions(f"cannot serve: {refusal}")


def require_folder(model_base_path: str) -> None:
    """Require the folder of versions.

    Args:
        model_base_path: Folder, local or gs://, with a numbered folder per version.

    Raises:
        UnusableOptions: The folder does not exist.
        CannotServe: Its bucket cannot be read.
    """
    try:
        there = addresses.is_folder(model_base_path)
    except OSError as error:
        raise CannotServe(f"cannot read {model_base_path}: {error}") from error
    if not there:
        found = "is a file" if os.path.lexists(model_base_path) else "does not exist"
        raise UnusableOptions(
            f"folder {model_base_path} {found}. Run the pipeline first, which pushes there, or name the folder "
            "of versions with --model-base-path."
        )


def _end_with_parent() -> None:
    """Make Linux kill this process when its parent ends for any reason."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
