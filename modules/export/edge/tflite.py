"""TFLite files: conversion, weights in 8 bits, and facts in a ZIP archive behind the model.

The archive is where TFLite's own metadata keep files, so that any ZIP reader finds them and runtimes pass over them.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from modules.export.edge.facts import Facts
from modules.export.edge.graph import PROBABILITIES

FACTS_FILE = "contract.json"

_FILE_IDENTIFIER = b"TFL3"
_CHANNELS_VERSION = 5
"""Version of the operation DEQUANTIZE that has a scale for each channel."""


class Model:
    """A TFLite file in LiteRT's interpreter, on one thread.

    Attributes:
        facts: Facts that the file holds.
    """

    def __init__(self, path: Path) -> None:
        """Load the file.

        Args:
            path: File that :func:`convert` made.
        """
        with zipfile.ZipFile(path) as archive:
            self.facts = Facts.from_texts(
                {name: json.dumps(value) for name, value in json.loads(archive.read(FACTS_FILE)).items()}
            )
        self._run = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()

    def predict(self, waveform: np.ndarray, valid_samples: np.ndarray) -> np.ndarray:
        """Return the probabilities of one window, float32 ``[1, emotions]``.

        Args:
            waveform: float32 ``[1, window_samples]``.
            valid_samples: Number of its samples that are sound, int32 ``[1]``.
        """
        return self._run(waveform=waveform, valid_samples=valid_samples)[PROBABILITIES]


def convert(window: tf.types.experimental.GenericFunction, facts: Facts) -> bytes:
    """Return the file of a function of one window, in operations that every TFLite runtime has.

    Args:
        window: Function of :func:`modules.export.edge.graph.one_window`.
        facts: Facts about the model; ``quantization`` decides on the weights.
    """
    module = tf.Module()
    module.window = window
    converter = tf.lite.TFLiteConverter.from_concrete_functions([window.get_concrete_function()], module)
    if facts.quantization == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content = converter.convert()
    return _with_facts(_with_float_activations(content) if facts.quantization == "int8" else content, facts)


def _with_facts(content: bytes, facts: Facts) -> bytes:
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(FACTS_FILE), json.dumps(facts._asdict(), indent=1) + "\n")
    return file.getvalue()


def _with_float_activations(content: bytes) -> bytes:
    """Return the model with weights that are converted to floats before they are used.

    The converter would also round the inputs of each layer to 8 bits, which changed four times as many answers
    (docs/benchmarks/edge.md).
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = _CHANNELS_VERSION
    model.operatorCodes = [*model.operatorCodes, code]
    for graph in model.subgraphs:
        _dequantize(graph, model.buffers, len(model.operatorCodes) - 1)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def _dequantize(graph: Any, buffers: list[Any], operator_code: int) -> None:
    """Put an operation before the others that makes floats of each constant of 8 bits."""
    tensors, floats, operators = list(graph.tensors), {}, []
    for number, tensor in enumerate(graph.tensors):
        if tensor.type != schema.TensorType.INT8 or buffers[tensor.buffer].data is None:
            continue
        made = schema.TensorT()
        made.name, made.shape, made.type = tensor.name + b"/float", tensor.shape, schema.TensorType.FLOAT32
        floats[number] = len(tensors)
        tensors.append(made)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = operator_code, [number], [floats[number]]
        operators.append(operator)
    for operator in graph.operators:
        operator.inputs = [floats.get(number, number) for number in operator.inputs]
        if hasattr(operator.builtinOptions, "asymmetricQuantizeInputs"):
            operator.builtinOptions.asymmetricQuantizeInputs = False
    graph.tensors, graph.operators = tensors, [*operators, *graph.operators]
