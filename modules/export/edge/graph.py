"""Function of one window: from its samples to the probabilities of the served model, in operations of edge runtimes."""

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from modules.audio import features
from modules.audio.edge_operations import EDGE
from modules.common.errors import SerError
from modules.export.contract import load_contract
from modules.models import FAMILIES

WAVEFORM = "waveform"
VALID_SAMPLES = "valid_samples"
PROBABILITIES = "probabilities"

_LISTS = ("TensorListReserve", "TensorListFromTensor", "TensorListStack")


class NotConvertible(SerError, ValueError):
    """The graph of a model cannot be converted for edge runtimes."""

    code = "edge.not_convertible"


def one_window(model_dir: str) -> tf.types.experimental.GenericFunction:
    """Return the function of one window of a SavedModel, without variables and in single precision.

    It takes ``waveform``, float32 ``[1, window_samples]``, and ``valid_samples``, int32 ``[1]``, and returns
    ``probabilities``, float32 ``[1, emotions]``. They are 0, as in the answers of a server, if a sample is not finite
    or ``valid_samples`` is not within 1 and the length of the window. Features are those of
    :func:`modules.audio.features.extract`; normalisation, network and calibration come out of the SavedModel.

    Args:
        model_dir: Folder of the SavedModel, local or in a bucket.

    Raises:
        NotConvertible: Its features need an encoder, or it was exported before models could be converted.
        FileNotFoundError: This project did not export it.
    """
    spec = load_contract(model_dir).audio_spec
    _require_convertible(spec.feature_family, model_dir)
    model = tf.saved_model.load(model_dir)
    if not hasattr(model, "classify"):
        raise NotConvertible(
            f"{model_dir} was exported by a release whose models cannot be converted; train and push it again"
        )
    signature = [
        tf.TensorSpec([1, spec.window_samples], tf.float32, WAVEFORM),
        tf.TensorSpec([1], tf.int32, VALID_SAMPLES),
    ]

    @tf.function(input_signature=signature)
    def served(waveform: tf.Tensor, valid_samples: tf.Tensor) -> tf.Tensor:
        extracted = features.extract(_finite(waveform), valid_samples, spec, EDGE)
        probabilities = model.classify(extracted, features.valid_frames(valid_samples, spec))
        usable = tf.reduce_all(tf.math.is_finite(waveform), axis=1)
        usable &= (valid_samples >= 1) & (valid_samples <= spec.window_samples)
        return tf.where(usable[:, tf.newaxis], probabilities, 0.0)

    frozen = convert_variables_to_constants_v2(served.get_concrete_function(), lower_control_flow=False)
    graph = frozen.graph.as_graph_def()
    _use_single_precision(graph)
    _use_batch_of_one(graph)
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    converted = imported.prune([tensor.name for tensor in frozen.inputs], frozen.outputs[0].name)

    @tf.function(input_signature=signature)
    def window(waveform: tf.Tensor, valid_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {PROBABILITIES: converted(waveform, valid_samples)}

    return window


def _finite(values: tf.Tensor) -> tf.Tensor:
    """Return values with 0 in place of others. tf2onnx makes products of choices, and NaN x 0 is NaN, except here."""
    numbers = tf.where(tf.math.is_nan(values), 0.0, values)
    return tf.where(tf.math.is_inf(numbers), 0.0, numbers)


def _require_convertible(feature_family: str, model_dir: str) -> None:
    if feature_family == "encoder":
        names = [name for name, family in FAMILIES.items() if family.feature_family != "encoder"]
        raise NotConvertible(
            f"{model_dir} has features of a speech encoder, which is not converted; allowed: the families "
            f"{', '.join(names)}. Train and push one: runner_local.py --set training.family={names[0]}"
        )


def _use_single_precision(graph: tf.compat.v1.GraphDef) -> None:
    """Replace float64, in which Transform normalises, by float32: TFLite has no operations in double precision."""
    for node in graph.node:
        for attribute in node.attr.values():
            if attribute.type == tf.float64.as_datatype_enum:
                attribute.type = tf.float32.as_datatype_enum
            if attribute.tensor.dtype == tf.float64.as_datatype_enum:
                values = tf.make_ndarray(attribute.tensor).astype(np.float32)
                attribute.tensor.CopyFrom(tf.make_tensor_proto(values))


def _use_batch_of_one(graph: tf.compat.v1.GraphDef) -> None:
    """Replace the unknown size of the batch in the shapes of recurrent layers' lists: TFLite requires a size."""
    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    for node in graph.node:
        if node.op in _LISTS:
            shape = constants[next(name for name in node.input if name.endswith("element_shape"))]
            sizes = tf.make_ndarray(shape)
            shape.CopyFrom(tf.make_tensor_proto(np.where(sizes < 0, 1, sizes).astype(sizes.dtype)))
