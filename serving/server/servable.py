"""One loaded version of a model."""

import asyncio
import contextlib
import posixpath
import re
from collections.abc import Iterator, Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import prediction_log_pb2

from modules.export import manifest
from modules.export.contract import EXTRA_ASSETS, WARMUP_FILE
from serving.server.errors import StatusError, invalid

DEFAULT_SIGNATURE = "serving_default"

_INTERNAL_SIGNATURE = "__saved_model_init_op"
_STATUS_OF_CODE = {code.value[0]: code for code in grpc.StatusCode}
_ASSERTION = re.compile(r"assertion failed: \[(.*?)\](?:\n|$)", re.DOTALL)


class Servable:
    """SavedModel in memory, loaded and run as in TF Serving: a graph and a session.

    Args:
        model_name: Name of the model.
        version: Number of the version.
        path: Folder of the SavedModel.
        public_key: Address of the public key that must have signed the model's manifest.

    Attributes:
        signature_defs: Signatures by name, for ``GetModelMetadata``.

    Raises:
        ManifestError: The files are not those of the model's manifest, or not signed as required.
    """

    def __init__(self, model_name: str, version: int, path: str, *, public_key: str | None = None) -> None:
        manifest.require_intact(path, public_key=public_key)
        self.model_name = model_name
        self.version = version
        self.path = path
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        meta_graph = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], path)
        self._session.graph.finalize()
        self.signature_defs = {
            name: definition for name, definition in meta_graph.signature_def.items() if name != _INTERNAL_SIGNATURE
        }
        self._specs = {name: _input_specs(definition) for name, definition in self.signature_defs.items()}
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the version loaded while a request uses it."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def close_when_idle(self) -> None:
        """Free the memory as soon as no request uses the version."""
        await self._idle.wait()
        self._session.close()

    def input_specs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Return name, type and shape of every input.

        Args:
            signature: Name of the signature.

        Raises:
            StatusError: The model does not have the signature.
        """
        if signature not in self._specs:
            raise invalid(f"the model has no signature {signature!r}; it has {', '.join(sorted(self._specs))}")
        return self._specs[signature]

    def check(self, signature: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Require the signature's names, types and shapes, and equal numbers of items in all inputs.

        Args:
            signature: Name of the signature.
            inputs: Input arrays by name.

        Raises:
            StatusError: The inputs do not fit.
        """
        specs = self.input_specs(signature)
        if set(inputs) != set(specs):
            raise invalid(f"inputs are {sorted(inputs)}; signature {signature!r} takes {sorted(specs)}")
        for name, spec in specs.items():
            array = inputs[name]
            if tf.as_dtype(array.dtype) != spec.dtype or not spec.shape.is_compatible_with(array.shape):
                raise invalid(
                    f"input {name!r} is {tf.as_dtype(array.dtype).name} of shape {list(array.shape)}; signature "
                    f"{signature!r} takes {spec.dtype.name} of shape {spec.shape}"
                )
        items = {name: array.shape[0] for name, array in sorted(inputs.items()) if array.ndim}
        if len(set(items.values())) > 1 or 0 in items.values():
            raise invalid(f"inputs must have the same number of items, at least one; they have {items}")

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph and return the outputs by name.

        Args:
            signature: Name of the signature.
            inputs: Input arrays that have passed :meth:`check`.

        Raises:
            StatusError: TensorFlow failed; with its status and the part of its message that concerns the caller.
        """
        definition = self.signature_defs[signature]
        fetches = {name: info.name for name, info in definition.outputs.items()}
        try:
            return self._session.run(fetches, {definition.inputs[name].name: array for name, array in inputs.items()})
        except tf.errors.OpError as error:
            code = _STATUS_OF_CODE.get(error.error_code, grpc.StatusCode.UNKNOWN)
            raise StatusError(code, _caller_message(error.message)) from error

    def warm_up(self) -> int:
        """Run the model's warm-up requests and return their number."""
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


def _input_specs(definition: meta_graph_pb2.SignatureDef) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name)
        for name, info in definition.inputs.items()
    }


def _caller_message(text: str) -> str:
    """Return TensorFlow's message without node names and stack, which are useless to the caller."""
    if assertion := _ASSERTION.search(text):
        return assertion[1].strip()
    text = re.sub(r"^Graph execution error:.*?\n(?=\S[^\n]*\n\t )", "", text, flags=re.DOTALL)
    return text.split("\n\t [[")[0].strip()
