"""Management calls to TF Serving, or to the embedded server: status, labels and a new configuration.

Without TensorFlow: messages are those of :mod:`serving.wire`, and ``tensorflow_serving.config``, which imports none.
"""

from pathlib import Path

import grpc
from tensorflow_serving.config import model_server_config_pb2

from modules.common import proxies
from serving.rollout.state import RolloutError, TargetUnreachable
from serving.wire import model_service_pb2 as wire

State = wire.ModelVersionStatus.State

_MODEL_SERVICE = "/tensorflow.serving.ModelService"
_METADATA_METHOD = "/tensorflow.serving.PredictionService/GetModelMetadata"
_TIMEOUT_SEC = 30.0
# The metadata of a signature includes the description of its tensors.
_OPTIONS = [("grpc.max_receive_message_length", 32 * 1024 * 1024)]
_NO_SUCH_LABEL = (
    grpc.StatusCode.NOT_FOUND,  # the label's version is not loaded
    grpc.StatusCode.INVALID_ARGUMENT,  # "Unrecognized servable version label"
)


class ModelServer:
    """Management client of one server for one model.

    Args:
        address: ``HOST:PORT``, or ``grpcs://HOST:PORT`` for TLS.
        model: Name of the served model.
        ca_file: Certificates in PEM to trust over TLS, in place of the system's.
    """

    def __init__(self, address: str, *, model: str, ca_file: Path | None = None) -> None:
        self.address = address
        self.model = model
        self._channel = _channel(address, ca_file)
        self._status = self._channel.unary_unary(
            f"{_MODEL_SERVICE}/GetModelStatus",
            wire.GetModelStatusRequest.SerializeToString,
            wire.GetModelStatusResponse.FromString,
        )
        self._reload = self._channel.unary_unary(
            f"{_MODEL_SERVICE}/HandleReloadConfigRequest",
            wire.ReloadConfigRequest.SerializeToString,
            wire.ReloadConfigResponse.FromString,
        )
        self._metadata = self._channel.unary_unary(
            _METADATA_METHOD,
            wire.GetModelMetadataRequest.SerializeToString,
            wire.GetModelMetadataResponse.FromString,
        )

    def statuses(self) -> dict[int, wire.ModelVersionStatus]:
        """Return the status of each version, unloaded ones included, by number.

        Raises:
            RolloutError: The server does not answer, or does not have the model.
        """
        request = wire.GetModelStatusRequest()
        request.model_spec.name = self.model
        try:
            answer = self._status(request, timeout=_TIMEOUT_SEC)
        except grpc.RpcError as error:
            raise self._failed(error) from error
        return {status.version: status for status in answer.model_version_status}

    def available(self) -> list[int]:
        """Return the versions that answer, lowest first."""
        return sorted(number for number, status in self.statuses().items() if status.state == State.AVAILABLE)

    def version_of_label(self, label: str) -> int | None:
        """Return the version that ``label`` points to; ``None`` where there is none, or it is not loaded.

        TF Serving has no call that lists labels, but the metadata of a label contains its version.

        Args:
            label: Name of the label.

        Raises:
            RolloutError: The server does not answer, or fails.
        """
        request = wire.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name, request.model_spec.version_label = self.model, label
        try:
            return self._metadata(request, timeout=_TIMEOUT_SEC).model_spec.version.value
        except grpc.RpcError as error:
            if error.code() in _NO_SUCH_LABEL:
                return None
            raise self._failed(error) from error

    def reload(self, config: model_server_config_pb2.ModelServerConfig, *, timeout_sec: float) -> None:
        """Make the server serve ``config`` and nothing else; labels move before versions are unloaded.

        Args:
            config: The whole configuration.
            timeout_sec: Deadline in seconds, which includes loading.

        Raises:
            RolloutError: The server does not answer, or refuses the configuration.
        """
        request = wire.ReloadConfigRequest(config=config.SerializeToString())
        try:
            status = self._reload(request, timeout=timeout_sec).status
        except grpc.RpcError as error:  # TF Serving fails the call and puts the reason into the response
            raise self._failed(error) from error
        if status.error_code:
            raise RolloutError(f"{self.address} refuses the configuration: {status.error_message}")

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _failed(self, error: grpc.RpcError) -> RolloutError:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return TargetUnreachable(f"no server answers at {self.address}; the address must be its gRPC port")
        return RolloutError(f"{self.address} answers {error.code().name}: {error.details()}")


def _channel(address: str, ca_file: Path | None) -> grpc.Channel:
    target = address.removeprefix("grpcs://")
    options = [*_OPTIONS, proxies.grpc_option(target)]
    if target == address:
        return grpc.insecure_channel(target, options=options)
    trusted = ca_file.read_bytes() if ca_file else None
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(trusted), options=options)
