"""Conversion of tensors between the two protocols and NumPy."""

import base64
import binascii
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.server.errors import invalid


def arrays_of_protos(protos: Mapping[str, tensor_pb2.TensorProto], *, max_items: int) -> dict[str, np.ndarray]:
    """Return the inputs of a gRPC request as arrays.

    Args:
        protos: Input tensors by name.
        max_items: Largest number of values in a tensor: a few bytes can declare a shape that fills the memory.

    Raises:
        StatusError: An input is not a valid tensor.
    """
    arrays = {}
    for name, proto in protos.items():
        shape = [dim.size for dim in proto.tensor_shape.dim]
        if any(size < 0 for size in shape) or proto.tensor_shape.unknown_rank or math.prod(shape) > max_items:
            raise invalid(f"input {name!r} has shape {shape}; sizes must be known and make at most {max_items} values")
        try:
            arrays[name] = _array_of_proto(proto, shape)
        except (TypeError, ValueError, KeyError) as error:
            raise invalid(f"input {name!r} is not a valid tensor of shape {shape}: {error}") from error
    return arrays


def write_array(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Write an output into a gRPC response, as ``tf.make_tensor_proto`` does but ten times as fast.

    Args:
        array: The output.
        proto: The empty message to fill.
    """
    proto.dtype = _data_type(array.dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()


def arrays_of_json(body: Any, specs: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
    """Return the inputs of a REST request in TF Serving's row (``instances``) or columnar (``inputs``) format.

    Args:
        body: The parsed JSON.
        specs: Inputs of the signature by name.

    Raises:
        StatusError: The body has neither format, or values that are not the signature's.
    """
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise invalid("the body must be a JSON object with either 'instances' (row format) or 'inputs' (columnar)")
    columns = _columns_of_rows(body["instances"], specs) if "instances" in body else body["inputs"]
    if "inputs" in body and not (isinstance(columns, dict) and set(columns) & set(specs)) and len(specs) == 1:
        columns = {next(iter(specs)): columns}  # a single input needs no name
    if not isinstance(columns, dict):
        raise invalid(f"'inputs' must be an object with the values of {sorted(specs)}")
    return {name: _array(name, values, specs) for name, values in columns.items()}


def rows_or_columns(outputs: Mapping[str, np.ndarray], *, rows: bool) -> dict[str, Any]:
    """Return the body of a REST response, in the format of its request.

    Args:
        outputs: Output arrays by name.
        rows: Use the row format instead of the columnar one.
    """
    values = {name: _json_values(name, array) for name, array in outputs.items()}
    only = next(iter(values.values())) if len(values) == 1 else None
    if not rows:
        return {"outputs": values if only is None else only}
    if only is not None:
        return {"predictions": only}
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def _array_of_proto(proto: tensor_pb2.TensorProto, shape: list[int]) -> np.ndarray:
    if proto.dtype == types_pb2.DT_STRING and len(proto.string_val) == math.prod(shape):  # saves a copy
        return np.array(list(proto.string_val), dtype=object).reshape(shape)
    if content := proto.tensor_content:  # each access is a copy
        return np.frombuffer(content, tf.as_dtype(proto.dtype).as_numpy_dtype).reshape(shape)
    return tf.make_ndarray(proto)


@functools.cache
def _data_type(dtype: np.dtype) -> int:
    return tf.as_dtype(dtype).as_datatype_enum


def _columns_of_rows(rows: Any, specs: Mapping[str, tf.TensorSpec]) -> dict[str, list[Any]]:
    if not isinstance(rows, list) or not rows:
        raise invalid("'instances' must be a list with at least one item")
    if len(specs) == 1:
        (name,) = specs
        return {name: [row[name] if isinstance(row, dict) and set(row) == {name} else row for row in rows]}
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(specs):
            raise invalid(f"item {index} of 'instances' must be an object with {sorted(specs)}")
    return {name: [row[name] for row in rows] for name in specs}


def _array(name: str, values: Any, specs: Mapping[str, tf.TensorSpec]) -> np.ndarray:
    if name not in specs:
        raise invalid(f"input {name!r} is unknown; the signature takes {sorted(specs)}")
    dtype = specs[name].dtype
    if dtype == tf.string:
        return np.array(_strings(name, values), dtype=object)
    try:
        return np.array(values, dtype=dtype.as_numpy_dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"input {name!r} must be a regular array of {dtype.name}: {error}") from error


def _strings(name: str, values: Any) -> Any:
    if isinstance(values, list):
        return [_strings(name, value) for value in values]
    if isinstance(values, str):
        return values.encode()
    if isinstance(values, dict) and set(values) == {"b64"} and isinstance(values["b64"], str):
        try:
            return base64.b64decode(values["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(f"input {name!r} has a b64 value that is not base64: {error}") from error
    raise invalid(f'input {name!r} must hold strings or {{"b64": "…"}}, not {type(values).__name__}')


def _json_values(name: str, array: np.ndarray) -> Any:
    """Return nested lists; by TF Serving's rule, strings are base64 if the name ends in ``_bytes``, otherwise text."""
    if array.dtype != object:
        return array.tolist()
    if name.endswith("_bytes"):
        return np.vectorize(lambda value: {"b64": base64.b64encode(value).decode()}, otypes=[object])(array).tolist()
    return np.vectorize(lambda value: value.decode(errors="replace"), otypes=[object])(array).tolist()
