"""Normalisation, learned on ``train`` by TensorFlow Transform and part of the served model."""

from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf
import tensorflow_transform as tft

from modules.audio.spec import AudioSpec
from modules.data import examples

Normalisation = Literal["zscore", "minmax"]

# Relative resolution of a float32: a smaller spread is rounding.
_RELATIVE_RESOLUTION = 1e-6

PASSED_THROUGH = (
    examples.VALID_FRAMES,
    examples.EMOTION_ID,
    examples.SPEAKER,
    examples.CLIP_ID,
    examples.AUGMENTATION,
    examples.AUDIO_SPEC,
)


def transform_config(spec: AudioSpec, normalisation: Normalisation = "zscore") -> dict[str, str]:
    """Return the ``custom_config`` of the Transform component for :func:`preprocessing_fn`."""
    return {"audio_spec": spec.to_json(), "normalisation": normalisation}


def preprocessing_fn(inputs: Mapping[str, tf.Tensor], custom_config: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Normalise the features and pass through the other values that training needs.

    Utterance features are normalised one by one. Features over time are normalised per channel over the valid frames;
    the other frames become 0, the mean.

    Args:
        inputs: Examples as :mod:`modules.data.examples` describes them; ``features`` is ``[batch, *feature_shape]``.
        custom_config: Values of :func:`transform_config`.

    Raises:
        ValueError: The features do not have the shape of the audio spec.
    """
    spec = AudioSpec.from_json(custom_config["audio_spec"])
    features = _dense_features(inputs[examples.FEATURES], spec)
    # In float64 the sums do not depend on how many workers added them up, to the last bit of a float32.
    values = tf.cast(features, tf.float64)
    mask = None
    if spec.has_frames:
        mask = tf.sequence_mask(tf.reshape(inputs[examples.VALID_FRAMES], [-1]), spec.window_frames)
    centre, width = _centre_and_width(values if mask is None else tf.boolean_mask(values, mask), custom_config)
    normalised = tf.math.divide_no_nan(values - centre, width)
    if mask is not None:
        normalised = tf.where(mask[..., tf.newaxis], normalised, tf.zeros_like(normalised))
    passed = {name: inputs[name] for name in PASSED_THROUGH}
    return {examples.FEATURES: tf.cast(normalised, tf.float32), **passed}


def _dense_features(features: Any, spec: AudioSpec) -> tf.Tensor:
    if not isinstance(features, tf.Tensor) or tuple(features.shape[1:]) != spec.feature_shape:
        seen = features.shape[1:] if isinstance(features, tf.Tensor) else type(features).__name__
        raise ValueError(
            f"{examples.FEATURES} has the shape {seen}; allowed by the audio spec: {spec.feature_shape}. "
            "Give the feature this fixed shape in the schema."
        )
    return features


def _centre_and_width(values: tf.Tensor, custom_config: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the offset and the divisor of each feature; a divisor of 0 marks a constant feature."""
    if custom_config["normalisation"] == "minmax":
        lowest = tft.min(values, reduce_instance_dims=False)
        return lowest, tft.max(values, reduce_instance_dims=False) - lowest
    mean = tft.mean(values, reduce_instance_dims=False)
    deviation = tf.sqrt(tft.var(values, reduce_instance_dims=False))
    varies = deviation > _RELATIVE_RESOLUTION * tf.abs(mean)
    return mean, tf.where(varies, deviation, tf.zeros_like(deviation))
