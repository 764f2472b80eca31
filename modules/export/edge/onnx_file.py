"""ONNX files: conversion, and facts in the metadata of the model."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from modules.export.edge.facts import Facts
from modules.export.edge.graph import PROBABILITIES, VALID_SAMPLES, WAVEFORM

_OPSET = 18


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
        facts: Facts about the model.
    """
    converted, _ = tf2onnx.convert.from_function(window, input_signature=window.input_signature, opset=_OPSET)
    onnx.helper.set_model_props(converted, facts.texts())
    return converted.SerializeToString()
