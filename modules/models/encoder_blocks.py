"""Blocks of a speech encoder as layers of the model, which train them together with a family's head.

They compute what :mod:`modules.audio.encoder.whisper` computes, and attend to the whole window as it does, the frames
beyond the clip's end included. They consist of Keras operations only, so that they train on any backend.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from modules.audio.encoder import weights
from modules.audio.encoder.catalog import encoder_named
from modules.audio.spec import AudioSpec
from modules.models.encoder_cnn import frame_weights
from modules.models.family import FEATURES, VALID_FRAMES

BLOCKS = "encoder_blocks"
"""Name of the part of the model that holds the blocks."""

POOL_FRAMES = AudioSpec().encoder_pool_frames
"""Frames that are averaged into one between the blocks and the head, as a frozen encoder's are before it."""

_NORM_EPSILON = 1e-5


def with_encoder_blocks(
    build_head: Callable[[tuple[int, ...]], keras.Model], spec: AudioSpec, blocks: int
) -> keras.Model:
    """Return an uncompiled model of an encoder's next blocks, with the published weights, and a head over them.

    Batch normalisation between them takes the place of Transform's, since the blocks need the encoder's own values.

    Args:
        build_head: Function of the shape of one clip's frames that returns the head; see
            :class:`modules.models.family.ModelFamily` for its inputs and output, which are those of the result.
        spec: Audio spec of the features: frames of the last block that is not trained.
        blocks: Number of blocks.

    Raises:
        WeightsError: The weights were not fetched.
    """
    features = keras.Input(spec.feature_shape, name=FEATURES)
    valid_frames = keras.Input((), dtype="int32", name=VALID_FRAMES)
    pooled = keras.layers.AveragePooling1D(POOL_FRAMES)(encoder_blocks(spec, blocks)(features))
    # Over the silence as well: with a mask, Keras does not synchronise the statistics of several devices.
    normalised = keras.layers.BatchNormalization(momentum=0.95, center=False, scale=False)(pooled)
    frames = keras.ops.minimum((valid_frames + (POOL_FRAMES - 1)) // POOL_FRAMES, pooled.shape[1])
    head = build_head(pooled.shape[1:])
    inputs = {FEATURES: normalised * frame_weights(frames, pooled.shape[1]), VALID_FRAMES: frames}
    return keras.Model({FEATURES: features, VALID_FRAMES: valid_frames}, head(inputs), name=head.name)


def encoder_blocks(spec: AudioSpec, blocks: int) -> keras.Model:
    """Return an encoder's blocks after the one that the features come from, with the published weights.

    Args:
        spec: Audio spec of the features.
        blocks: Number of blocks.

    Returns:
        A model from float32 ``[batch, *spec.feature_shape]`` to the outputs of the last block, of the same shape.

    Raises:
        WeightsError: The weights were not fetched.
    """
    published, heads = weights.load(spec.encoder), encoder_named(spec.encoder).heads
    (first,) = spec.encoder_blocks
    features = x = keras.Input(spec.feature_shape)
    for number in range(first, first + blocks):
        prefix = f"layer_{number}/"
        arrays = {name.removeprefix(prefix): array for name, array in published.items() if name.startswith(prefix)}
        x = _block(x, {name: array.astype(np.float32) for name, array in arrays.items()}, heads)
    return keras.Model(features, x, name=BLOCKS)


def _block(x: keras.KerasTensor, arrays: Mapping[str, np.ndarray], heads: int) -> keras.KerasTensor:
    width = x.shape[-1]
    normalised = _normalised(x, arrays, "self_attention")
    attention = keras.layers.MultiHeadAttention(heads, width // heads)
    x = x + _applied(attention, _attention_weights(arrays, heads), normalised, normalised)
    hidden = _dense(_normalised(x, arrays, "ffn"), arrays, "ffn/linear_0", activation="gelu")
    return x + _dense(hidden, arrays, "ffn/linear_1")


def _normalised(x: keras.KerasTensor, arrays: Mapping[str, np.ndarray], part: str) -> keras.KerasTensor:
    values = [arrays[f"{part}/layer_norm/{name}"] for name in ("gamma", "beta")]
    return _applied(keras.layers.LayerNormalization(epsilon=_NORM_EPSILON), values, x)


def _dense(
    x: keras.KerasTensor, arrays: Mapping[str, np.ndarray], name: str, activation: str | None = None
) -> keras.KerasTensor:
    kernel, bias = arrays[f"{name}/weight"].T, arrays[f"{name}/bias"]
    return _applied(keras.layers.Dense(len(bias), activation), [kernel, bias], x)


def _attention_weights(arrays: Mapping[str, np.ndarray], heads: int) -> list[np.ndarray]:
    """Return kernel and bias of queries, keys, values and output, as Keras arranges them by heads."""
    kernels = np.split(arrays["self_attention/linear_0/weight"].T, 3, axis=1)
    biases = np.split(arrays["self_attention/linear_0/bias"], 3)
    output, output_bias = (arrays[f"self_attention/linear_1/{name}"] for name in ("weight", "bias"))
    width = len(output_bias)
    pairs = zip(kernels, biases, strict=True)
    by_head = [(kernel.reshape(width, heads, -1), bias.reshape(heads, -1)) for kernel, bias in pairs]
    return [*itertools.chain(*by_head), output.T.reshape(heads, -1, width), output_bias]


def _applied(layer: keras.layers.Layer, values: Sequence[np.ndarray], *inputs: keras.KerasTensor) -> keras.KerasTensor:
    """Return the outputs of a layer with these weights, which it takes once it knows the shape of its inputs."""
    outputs = layer(*inputs)
    layer.set_weights(values)
    return outputs
