"""A SavedModel loaded and run by TensorFlow's C API, which is the C++ loader that TF Serving uses.

``TF_LoadSessionFromSavedModel`` wraps ``tensorflow::LoadSavedModel``. It needs nothing but an installed TensorFlow.

As a command, it answers the requests of a file in the TensorFlow of the interpreter that runs it:
``python c_api.py MODEL_DIR REQUESTS ANSWERS``. Both files are pickles: a list of pairs of signature and inputs, and a
list of outputs. It prints TensorFlow's version.
"""

import ctypes
import math
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

_STRING_BYTES = 24  # sizeof(TF_TString)


class CApiError(Exception):
    """TensorFlow returned a status other than OK."""


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class CApiModel:
    """A SavedModel in a session of the C API; it is never freed.

    Attributes:
        signature_defs: By name, ``__saved_model_init_op`` excluded.

    Raises:
        CApiError: The model cannot be loaded.
    """

    def __init__(self, model_dir: str) -> None:
        self._tf = _library()
        self._graph, meta_graph = self._tf.TF_NewGraph(), self._tf.TF_NewBuffer()
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = self._call(
            self._tf.TF_LoadSessionFromSavedModel,
            self._tf.TF_NewSessionOptions(),
            None,
            model_dir.encode(),
            tags,
            1,
            self._graph,
            meta_graph,
        )
        buffer = ctypes.cast(meta_graph, ctypes.POINTER(_Buffer)).contents
        parsed = meta_graph_pb2.MetaGraphDef.FromString(ctypes.string_at(buffer.data, buffer.length))
        self.signature_defs = {
            name: definition for name, definition in parsed.signature_def.items() if not name.startswith("__")
        }

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer one request.

        Raises:
            CApiError: The session's status.
        """
        definition = self.signature_defs[signature]
        feeds = [self._output(definition.inputs[name].name) for name in inputs]
        fetches = [self._output(info.name) for info in definition.outputs.values()]
        tensors = [self._tensor(array) for array in inputs.values()]
        answers = (ctypes.c_void_p * len(fetches))()
        self._call(
            self._tf.TF_SessionRun,
            self._session,
            None,
            (_Output * len(feeds))(*feeds),
            (ctypes.c_void_p * len(feeds))(*tensors),
            len(feeds),
            (_Output * len(fetches))(*fetches),
            answers,
            len(fetches),
            None,
            0,
            None,
        )
        return {name: self._array(answer) for name, answer in zip(definition.outputs, answers, strict=True)}

    def _call(self, function: Any, *arguments: Any) -> Any:
        status = self._tf.TF_NewStatus()
        result = function(*map(_passed, arguments), ctypes.c_void_p(status))
        if code := self._tf.TF_GetCode(status):
            raise CApiError(f"{code}: {self._tf.TF_Message(status).decode()}")
        return result

    def _output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        return _Output(self._tf.TF_GraphOperationByName(self._graph, operation.encode()), int(index or 0))

    def _tensor(self, array: np.ndarray) -> int:
        dtype = tf.as_dtype(array.dtype if array.dtype != object else tf.string)
        item_bytes = _STRING_BYTES if dtype == tf.string else array.itemsize
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = self._tf.TF_AllocateTensor(
            dtype.as_datatype_enum, shape, array.ndim, ctypes.c_size_t(array.size * item_bytes)
        )
        data = self._tf.TF_TensorData(tensor)
        if dtype == tf.string:
            for index, value in enumerate(array.ravel().tolist()):
                place = ctypes.c_void_p(data + index * _STRING_BYTES)
                self._tf.TF_StringInit(place)
                self._tf.TF_StringCopy(place, value, ctypes.c_size_t(len(value)))
        else:
            values = np.ascontiguousarray(array)
            ctypes.memmove(data, values.ctypes.data, values.nbytes)
        return tensor

    def _array(self, tensor: int) -> np.ndarray:
        dtype = tf.as_dtype(self._tf.TF_TensorType(ctypes.c_void_p(tensor)))
        shape = [self._tf.TF_Dim(ctypes.c_void_p(tensor), axis) for axis in range(self._tf.TF_NumDims(tensor))]
        data = self._tf.TF_TensorData(ctypes.c_void_p(tensor))
        if dtype != tf.string:
            content = ctypes.string_at(data, math.prod(shape) * dtype.size)
            return np.frombuffer(content, dtype.as_numpy_dtype).reshape(shape)
        places = [ctypes.c_void_p(data + index * _STRING_BYTES) for index in range(math.prod(shape))]
        texts = [
            ctypes.string_at(self._tf.TF_StringGetDataPointer(place), self._tf.TF_StringGetSize(place))
            for place in places
        ]
        return np.array(texts, object).reshape(shape)


def _passed(argument: Any) -> Any:
    """Return addresses as pointers; ctypes would cut Python integers to 32 bits."""
    return ctypes.c_void_p(argument) if isinstance(argument, int) and argument > 2**31 else argument


def _library() -> ctypes.CDLL:
    folder = Path(tf.__file__).parent
    library = ctypes.CDLL(str(next(folder.glob("libtensorflow_cc.so*"))), mode=ctypes.RTLD_GLOBAL)
    pointers = (
        "TF_NewStatus TF_NewGraph TF_NewBuffer TF_NewSessionOptions TF_LoadSessionFromSavedModel TF_TensorData "
        "TF_GraphOperationByName TF_AllocateTensor TF_StringGetDataPointer"
    )
    for name in pointers.split():
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_StringGetSize.restype = ctypes.c_size_t
    for name, types in {
        "TF_GetCode": [ctypes.c_void_p],
        "TF_Message": [ctypes.c_void_p],
        "TF_GraphOperationByName": [ctypes.c_void_p, ctypes.c_char_p],
        "TF_TensorData": [ctypes.c_void_p],
        "TF_NumDims": [ctypes.c_void_p],
    }.items():
        getattr(library, name).argtypes = types
    return library


def main() -> None:
    """Answer the requests of a file."""
    print(tf.__version__)
    model_dir, requests, answers = sys.argv[1:]
    model = CApiModel(model_dir)
    items = pickle.loads(Path(requests).read_bytes())
    Path(answers).write_bytes(pickle.dumps([model.run(signature, inputs) for signature, inputs in items]))


if __name__ == "__main__":
    main()
