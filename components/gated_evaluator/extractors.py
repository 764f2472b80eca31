"""Extractors of TFMA, for slices by values that are not features."""

from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from modules.data import examples
from modules.evaluation.evaluate import length_slice

LENGTH = "length"
"""Slice by the classes of duration of :func:`modules.evaluation.evaluate.length_slice`."""


def custom_extractors(
    eval_shared_model: Any, eval_config: config_pb2.EvalConfig, tensor_adapter_config: Any
) -> list[Any]:
    """Return TFMA's own extractors, and one of the length before they slice. TFX's Evaluator calls it.

    Args:
        eval_shared_model: Model of TFMA.
        eval_config: Configuration of TFMA.
        tensor_adapter_config: Configuration of the examples' tensors.
    """
    extractors = tfma.default_extractors(
        eval_shared_model=eval_shared_model,
        eval_config=eval_config,
        tensor_adapter_config=tensor_adapter_config,
    )
    slicing = [index for index, each in enumerate(extractors) if each.stage_name.endswith("SliceKeys")]
    length = tfma.extractors.Extractor(stage_name="ExtractLength", ptransform=beam.Map(_add_length))
    return [*extractors[: slicing[0]], length, *extractors[slicing[0] :]]


def _add_length(example: dict[str, Any]) -> dict[str, Any]:
    """Add the length to one example, since TFMA splits batches before it slices."""
    features = example[tfma.FEATURES_KEY]
    length = length_slice(float(np.ravel(features[examples.DURATION_SEC])[0]))
    return {**example, tfma.FEATURES_KEY: {**features, LENGTH: np.array([length.encode()])}}
