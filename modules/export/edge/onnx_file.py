"""ONNX files: conversion, weights in 8 bits, and facts in the metadata of the model."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnx import numpy_helper

from modules.export.edge.facts import Facts
from modules.export.edge.graph import PROBABILITIES, VALID_SAMPLES, WAVEFORM

_OPSET = 18
_LEAST_VALUES = 1024
"""Values from which TFLite's converter stores weights in 8 bits."""

_LAYERS = ("Conv", "Gemm", "MatMul", "Loop")
"""Operations with weights behind their first input; the steps of the front end have their constants there."""


class Model:
    """An ONNX file in ONNX Runtime, on one thread.

    Attributes:
        facts: Facts that the file holds.
    """

    def __init__(self, path: Path) -> None:
        """Load the file.

        Args:
            path: File that :func:`convert` made.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.facts = Facts.from_texts(self._session.get_modelmeta().custom_metadata_map)

    def predict(self, waveform: np.ndarray, valid_samples: np.ndarray) -> np.ndarray:
        """Return the probabilities of one window, float32 ``[1, emotions]``.

        Args:
            waveform: float32 ``[1, window_samples]``.
            valid_samples: Number of its samples that are sound, int32 ``[1]``.
        """
        return self._session.run([PROBABILITIES], {WAVEFORM: waveform, VALID_SAMPLES: valid_samples})[0]


def convert(window: tf.types.experimental.GenericFunction, facts: Facts) -> bytes:
    """Return the file of a function of one window.

    Args:
        window: Function of :func:`modules.export.edge.graph.one_window`.
        facts: Facts about the model; ``quantization`` decides on the weights.
    """
    converted, _ = tf2onnx.convert.from_function(window, input_signature=window.input_signature, opset=_OPSET)
    if facts.quantization == "int8":
        _store_weights_in_8_bits(converted.graph)
    onnx.helper.set_model_props(converted, facts.texts())
    return converted.SerializeToString()


def _store_weights_in_8_bits(graph: onnx.GraphProto) -> None:
    """Replace weights of layers by integers with a scale for each channel, and an operation that makes floats of them.

    Inputs of layers stay floats; :mod:`modules.export.edge.tflite` has the reason.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    layers = {name: node.op_type for node in graph.node if node.op_type in _LAYERS for name in node.input[1:]}
    for name, layer in layers.items():
        values = numpy_helper.to_array(constants[name]) if name in constants else np.zeros(())
        if values.dtype != np.float32 or values.ndim < 2 or values.size < _LEAST_VALUES:
            continue
        axis = 0 if layer == "Conv" else values.ndim - 1
        others = tuple(other for other in range(values.ndim) if other != axis)
        scales = np.maximum(np.abs(values).max(axis=others, keepdims=True), np.finfo(np.float32).tiny) / 127
        integers = numpy_helper.from_array(np.round(values / scales).astype(np.int8), f"{name}/int8")
        graph.initializer.remove(constants[name])
        graph.initializer.extend([integers, numpy_helper.from_array(scales.ravel(), f"{name}/scales")])
        inputs = [f"{name}/int8", f"{name}/scales"]
        graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
