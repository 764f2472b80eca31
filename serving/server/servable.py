"""One loaded version of a model."""

import asyncio
import contextlib
import posixpath
import re
from collections.abc import Iterator, Mapping

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from modules.export.contract import EXTRA_ASSETS, WARMUP_FILE
from serving.server.errors import Fault, invalid

DEFAULT_SIGNATURE = "serving_default"

_INTERNAL_SIGNATURE = "__saved_model_init_op"
_STATUS_OF_CODE = {code.value[0]: code for code in grpc.StatusCode}
_ASSERTION = re.compile(r"assertion failed: \[(.*?)\](?:\n|$)", re.DOTALL)


class Servable:
    """A SavedModel in memory.

    Attributes:
        signature_defs: What ``GetModelMetadata`` tells.
    """

    def __init__(self, model_name: str, version: int, path: str) -> None:
        self.model_name = model_name
        self.version = version
        self.path = path
        self.signature_defs = _read_signature_defs(path)
        self._loaded = tf.saved_model.load(path)
        self._signatures = {
            name: signature for name, signature in self._loaded.signatures.items() if name != _INTERNAL_SIGNATURE
        }
        self._specs = {name: signature.structured_input_signature[1] for name, signature in self._signatures.items()}
        self._batchable = {name for name in self._signatures if self._items_are_apart(name)}
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the version loaded while a request uses it."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Returns when no request uses the version any more."""
        await self._idle.wait()

    def input_specs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Name, type and shape of every input.

        Raises:
            Fault: No such signature.
        """
        if signature not in self._specs:
            raise invalid(f"the model has no signature {signature!r}; it has {', '.join(sorted(self._specs))}")
        return self._specs[signature]

    def can_batch(self, signature: str) -> bool:
        """Whether items of different requests may run together: only if no item's output depends on the others."""
        return signature in self._batchable

    def check(self, signature: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Raises :class:`Fault` unless names, types and shapes fit and all inputs have as many items."""
        specs = self.input_specs(signature)
        if set(inputs) != set(specs):
            raise invalid(f"inputs are {sorted(inputs)}; signature {signature!r} takes {sorted(specs)}")
        for name, spec in specs.items():
            seen = inputs[name]
            if tf.as_dtype(seen.dtype) != spec.dtype or not spec.shape.is_compatible_with(seen.shape):
                raise invalid(
                    f"input {name!r} is {tf.as_dtype(seen.dtype).name} of shape {list(seen.shape)}; signature "
                    f"{signature!r} takes {spec.dtype.name} of shape {spec.shape}"
                )
        items = {name: array.shape[0] for name, array in inputs.items() if array.ndim}
        if len(set(items.values())) > 1 or 0 in items.values():
            raise invalid(f"inputs must hold as many items each, at least one; they hold {items}")

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph; inputs must have passed :meth:`check`.

        Raises:
            Fault: With TensorFlow's status and the part of its message that concerns the caller.
        """
        try:
            outputs = self._signatures[signature](**{name: tf.constant(array) for name, array in inputs.items()})
            return {name: tensor.numpy() for name, tensor in outputs.items()}
        except tf.errors.OpError as error:
            code = _STATUS_OF_CODE.get(error.error_code, grpc.StatusCode.UNKNOWN)
            raise Fault(code, _caller_message(error.message)) from error

    def _items_are_apart(self, signature: str) -> bool:
        """Every tensor has the batch first, and no output's further dimensions follow from the items."""
        inputs = all(spec.shape.rank for spec in self._specs[signature].values())
        outputs = [spec.shape for spec in self._signatures[signature].structured_outputs.values()]
        return inputs and all(shape.rank and shape[1:].is_fully_defined() for shape in outputs)

    def warm_up(self) -> int:
        """Runs the requests that the model brings for this purpose; returns how many there were."""
        file = posixpath.join(self.path, EXTRA_ASSETS, WARMUP_FILE)
        if not tf.io.gfile.exists(file):
            return 0
        count = 0
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            self.check(signature, inputs)
            self.run(signature, inputs)
            count += 1
        return count


def _read_signature_defs(path: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(
            tf.io.gfile.GFile(posixpath.join(path, "saved_model.pb"), "rb").read()
        )
    except message.DecodeError as error:
        raise ValueError(f"{path}/saved_model.pb is not a SavedModel") from error
    return {
        name: definition
        for name, definition in saved_model.meta_graphs[0].signature_def.items()
        if name != _INTERNAL_SIGNATURE
    }


def _caller_message(text: str) -> str:
    """Without the graph's node names and stack, which mean nothing to whoever sent the request."""
    if assertion := _ASSERTION.search(text):
        return assertion[1].strip()
    text = re.sub(r"^Graph execution error:.*?\n(?=\S[^\n]*\n\t )", "", text, flags=re.DOTALL)
    return text.split("\n\t [[")[0].strip()
