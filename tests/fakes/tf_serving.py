"""A stand-in for the part of TF Serving that decides which versions and labels there are; it predicts nothing.

The embedded server is kinder than TF Serving. The rules that are imitated here are those of release 2.19.1, from its
source (``model_servers/server_core.cc``, ``model_servers/get_model_status_impl.cc``,
``model_servers/model_service_impl.cc``, ``sources/storage_path/file_system_storage_path_source.cc``):

* A configuration with a label for a version that is not AVAILABLE is refused with FAILED_PRECONDITION: the call fails,
  labels and versions stay as they were.
* Labels move at once. Versions are loaded and unloaded later, at polls of the file system; none is unloaded before
  one of those that are wanted is AVAILABLE.
* A version that did not load is END, with the error. It is tried again when it was not wanted in between.
* GetModelStatus does not know labels: it tells the state of every version that was ever seen.
* GetModelMetadata tells which version answers: for a label that there is not INVALID_ARGUMENT, for one whose version
  is not AVAILABLE NOT_FOUND.

Time does not pass by itself: after each GetModelStatus the server does one step of its work.
"""

import contextlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

State = get_model_status_pb2.ModelVersionStatus.State

_NEXT = {State.START: State.LOADING, State.LOADING: State.AVAILABLE, State.UNLOADING: State.END}


class FakeTfServing(model_service_pb2_grpc.ModelServiceServicer, prediction_service_pb2_grpc.PredictionServiceServicer):
    """One model, ``ser``.

    Attributes:
        on_disk: Versions below the base path.
        broken: Those of them that do not load, and why.
        refused: Why configurations were refused, in order.
        dangling: Labels that pointed to a version that was not AVAILABLE, at any step.
    """

    def __init__(self, on_disk: set[int], *, served: list[int]) -> None:
        self.on_disk = on_disk
        self.broken: dict[int, str] = {}
        self.refused: list[str] = []
        self.dangling: list[str] = []
        self.labels: dict[str, int] = {}
        self._aspired = served
        self._states = dict.fromkeys(served, State.AVAILABLE)
        self._errors: dict[int, str] = {}
        self._given_up: set[int] = set()

    @property
    def available(self) -> list[int]:
        return sorted(version for version, state in self._states.items() if state == State.AVAILABLE)

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        (model,) = request.config.model_config_list.config
        for version in model.version_labels.values():
            if version not in self.available:
                text = f"Request to assign label to version {version} of model ser, which is not currently available"
                self.refused.append(text)
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        self.labels = dict(model.version_labels)
        self._aspired = self._wanted(model)
        return model_management_pb2.ReloadConfigResponse()

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = get_model_status_pb2.GetModelStatusResponse()
        for version, state in self._states.items():
            status = answer.model_version_status.add(version=version, state=state)
            status.status.error_code = grpc.StatusCode.UNKNOWN.value[0] if version in self._errors else 0
            status.status.error_message = self._errors.get(version, "")
        self._step()
        return answer

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        label = request.model_spec.version_label
        if label not in self.labels:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        if self.labels[label] not in self.available:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {self.labels[label]}")
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = "ser", self.labels[label]
        return answer

    def _wanted(self, model: model_server_config_pb2.ModelConfig) -> list[int]:
        policy = model.model_version_policy
        return list(policy.specific.versions) if policy.HasField("specific") else [max(self.on_disk)]

    def _step(self) -> None:
        replaced = any(version in self.available for version in self._aspired)
        for version in {**dict.fromkeys(self._aspired), **self._states}:
            wanted, state = version in self._aspired, self._states.get(version, State.END)
            if not wanted:
                self._given_up.discard(version)
            if state == State.LOADING and version in self.broken:
                self._states[version], self._errors[version] = State.END, self.broken[version]
                self._given_up.add(version)
            elif state in _NEXT:
                self._states[version] = _NEXT[state]
            elif state == State.END and wanted and version in self.on_disk - self._given_up:
                self._states[version] = State.START
                self._errors.pop(version, None)
            elif state == State.AVAILABLE and not wanted and replaced:
                self._states[version] = State.UNLOADING
        self.dangling += [label for label, version in self.labels.items() if version not in self.available]

    @contextlib.contextmanager
    def listening(self) -> Iterator[str]:
        """On a free port of the loopback interface; yields the address."""
        server = grpc.server(futures.ThreadPoolExecutor(1))
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, server)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
