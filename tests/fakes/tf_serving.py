"""A stand-in for two parts of TF Serving: which versions and labels there are, and what happens to a batch.

The rules that are imitated here are those of TF Serving's source (``model_servers/server_core.cc``,
``model_servers/get_model_status_impl.cc``, ``model_servers/model_service_impl.cc``,
``sources/storage_path/file_system_storage_path_source.cc``, ``batching/batching_session.cc``):

* A configuration with a label for a version that is not AVAILABLE is refused with FAILED_PRECONDITION: the call fails,
  labels and versions stay as they were.
* Labels move at once. Versions are loaded and unloaded later, at polls of the file system; none is unloaded before
  a configured one is AVAILABLE.
* A version that did not load is END, with the error. It is loaded again after a configuration without it.
* GetModelStatus does not support labels: it returns the state of every version so far.
* GetModelMetadata returns the version of a label: INVALID_ARGUMENT for an unknown label, NOT_FOUND for one whose
  version is not AVAILABLE.

Time does not pass by itself: after each GetModelStatus the server does one step of its work.

With a model (:class:`BatchingSession`) it also predicts, for every version and label by the same model:

* Requests for one signature are merged into one batch, whatever their shapes.
* If inputs of one name differ in another dimension than the first, all requests of the batch get FAILED_PRECONDITION.
* A run of the batch has one status, and all requests of the batch get it.
"""

import contextlib
import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.server.errors import StatusError
from serving.server.servable import Servable

State = get_model_status_pb2.ModelVersionStatus.State

Arrays = Mapping[str, np.ndarray]

_THREADS = 64
_NEXT = {State.START: State.LOADING, State.LOADING: State.AVAILABLE, State.UNLOADING: State.END}


class BatchingSession:
    """A model, loaded as TF Serving loads it, that runs the requests for one signature together.

    A batch starts when it has ``batch_items`` items, or ``timeout_sec`` after its first request.

    Attributes:
        batches: Items of each batch so far, by signature.
    """

    def __init__(self, model_dir: str, *, batch_items: int, timeout_sec: float = 10.0) -> None:
        self._servable = Servable("ser", 1, model_dir)
        self._batch_items = batch_items
        self._timeout_sec = timeout_sec
        self._lock = threading.Lock()
        self._open: dict[str, list[tuple[Arrays, futures.Future[Arrays]]]] = defaultdict(list)
        self.batches: dict[str, list[int]] = defaultdict(list)

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Answer a request together with others; raise the StatusError of their batch."""
        self._servable.check(signature, inputs)
        answer: futures.Future[Arrays] = futures.Future()
        with self._lock:
            batch = self._open[signature]
            batch.append((inputs, answer))
            full = sum(_items(each) for each, _ in batch) >= self._batch_items
            if full:
                del self._open[signature]
        if full:
            self._process(signature, batch)
        try:
            return answer.result(self._timeout_sec)
        except futures.TimeoutError:
            self._close(signature, batch)
        return answer.result()

    def _close(self, signature: str, batch: list[tuple[Arrays, "futures.Future[Arrays]"]]) -> None:
        with self._lock:
            mine = self._open.get(signature) is batch
            if mine:
                del self._open[signature]
        if mine:
            self._process(signature, batch)

    def _process(self, signature: str, batch: list[tuple[Arrays, "futures.Future[Arrays]"]]) -> None:
        """One status for all: TF Serving's ``ProcessBatch``."""
        self.batches[signature].append(sum(_items(inputs) for inputs, _ in batch))
        try:
            outputs = self._servable.run(signature, _merged([inputs for inputs, _ in batch]))
        except StatusError as error:
            for _, answer in batch:
                answer.set_exception(error)
            return
        ends = itertools.accumulate(_items(inputs) for inputs, _ in batch)
        for (inputs, answer), end in zip(batch, ends, strict=True):
            answer.set_result({name: array[end - _items(inputs) : end] for name, array in outputs.items()})


def _items(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _merged(requests: list[Arrays]) -> Arrays:
    """TF Serving's ``MergeInputTensors`` without padding."""
    for name in requests[0]:
        if len({inputs[name].shape[1:] for inputs in requests}) > 1:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off.",
            )
    return {name: np.concatenate([inputs[name] for inputs in requests]) for name in requests[0]}


class FakeTfServing(model_service_pb2_grpc.ModelServiceServicer, prediction_service_pb2_grpc.PredictionServiceServicer):
    """One model, ``ser``.

    Attributes:
        on_disk: Versions below the base path.
        broken: Those of them that do not load, and why.
        refused: Why configurations were refused, in order.
        dangling: Labels that pointed to a version that was not AVAILABLE, at any step.
    """

    def __init__(self, on_disk: set[int], *, served: list[int], session: BatchingSession | None = None) -> None:
        self.on_disk = on_disk
        self._session = session
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
        self._aspired = self._configured(model)
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

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self._session is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this stand-in was started without a model")
        signature = request.model_spec.signature_name or "serving_default"
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        try:
            outputs = self._session.run(signature, inputs)
        except StatusError as error:
            context.abort(error.status, error.message)
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.signature_name = "ser", signature
        answer.model_spec.version.value = max(self.available)
        for name, array in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return answer

    def _configured(self, model: model_server_config_pb2.ModelConfig) -> list[int]:
        policy = model.model_version_policy
        return list(policy.specific.versions) if policy.HasField("specific") else [max(self.on_disk)]

    def _step(self) -> None:
        replaced = any(version in self.available for version in self._aspired)
        for version in {**dict.fromkeys(self._aspired), **self._states}:
            aspired, state = version in self._aspired, self._states.get(version, State.END)
            if not aspired:
                self._given_up.discard(version)
            if state == State.LOADING and version in self.broken:
                self._states[version], self._errors[version] = State.END, self.broken[version]
                self._given_up.add(version)
            elif state in _NEXT:
                self._states[version] = _NEXT[state]
            elif state == State.END and aspired and version in self.on_disk - self._given_up:
                self._states[version] = State.START
                self._errors.pop(version, None)
            elif state == State.AVAILABLE and not aspired and replaced:
                self._states[version] = State.UNLOADING
        self.dangling += [label for label, version in self.labels.items() if version not in self.available]

    @contextlib.contextmanager
    def listening(self) -> Iterator[str]:
        """Listen on a free port of the loopback interface, and yield the address."""
        server = grpc.server(futures.ThreadPoolExecutor(_THREADS if self._session else 1))
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, server)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
