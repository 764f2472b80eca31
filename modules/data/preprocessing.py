"""Normalisation, learned on ``train`` by TensorFlow Transform and part of the served model."""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from modules.audio.spec import AudioSpec
from modules.data import examples

Normalisation = Literal["zscore", "minmax"]

# Relative resolution of a float32: a smaller spread is rounding.
_RELATIVE_RESOLUTION = 1e-6


class Constants(NamedTuple):
    """Constants of the normalisation, float64 ``[features]``.

    Attributes:
        centre: Offset that is subtracted from each feature.
        width: Divisor of each feature; 0 marks a constant feature, which becomes 0.
    """

    centre: tf.Tensor
    width: tf.Tensor

    def to_json(self) -> str:
        """Return the constants as JSON."""
        return json.dumps({name: np.asarray(values).tolist() for name, values in self._asdict().items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` returned.

        Args:
            text: The JSON.
        """
        return cls(**{name: np.array(values, np.float64) for name, values in json.loads(text).items()})


def transform_config(spec: AudioSpec, normalisation: Normalisation | Literal["none"] = "zscore") -> dict[str, str]:
    """Return the ``custom_config`` of the Transform component for :func:`preprocessing_fn`."""
    return {"audio_spec": spec.to_json(), "normalisation": normalisation}


def preprocessing_fn(inputs: Mapping[str, tf.Tensor], custom_config: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Normalise the features.

    Utterance features are normalised one by one. Features over time are normalised per channel over the valid frames;
    the other frames become 0, the mean. ``none`` leaves all of them as they are.

    Args:
        inputs: Examples as :mod:`modules.data.examples` describes them; ``features`` is ``[batch, *feature_shape]``.
        custom_config: Values of :func:`transform_config`.

    Raises:
        ValueError: The features do not have the shape of the audio spec.
    """
    spec = AudioSpec.from_json(custom_config["audio_spec"])
    features = _dense_features(inputs[examples.FEATURES], spec)
    if custom_config["normalisation"] == "none":
        return {examples.FEATURES: features}
    valid_frames = tf.reshape(inputs[examples.VALID_FRAMES], [-1])
    # In float64 the sums do not depend on how many workers added them up, to the last bit of a float32.
    values = tf.cast(features, tf.float64)
    if spec.has_frames:
        values = tf.boolean_mask(values, _valid(valid_frames, spec))
    if custom_config["normalisation"] == "minmax":
        lowest = tft.min(values, reduce_instance_dims=False)
        constants = minmax_constants(lowest, tft.max(values, reduce_instance_dims=False))
    else:
        mean = tft.mean(values, reduce_instance_dims=False)
        constants = zscore_constants(mean, tft.var(values, reduce_instance_dims=False))
    return {examples.FEATURES: normalise(features, valid_frames, constants, spec)}


def learned_normalisation(transform: tft.TFTransformOutput, spec: AudioSpec) -> tf.types.experimental.GenericFunction:
    """Return the normalisation that Transform learned.

    Args:
        transform: Output of the Transform component.
        spec: Audio spec of the features.

    Returns:
        A function from raw features, float32 ``[batch, *feature_shape]``, and valid frames, int64 ``[batch]``, to
        normalised features of the same shape.
    """

    @tf.function(input_signature=features_signature(spec))
    def normalise(raw: tf.Tensor, valid_frames: tf.Tensor) -> tf.Tensor:
        transformed = transform.transform_raw_features({examples.FEATURES: raw, examples.VALID_FRAMES: valid_frames})
        return transformed[examples.FEATURES]

    return normalise


def features_signature(spec: AudioSpec) -> list[tf.TensorSpec]:
    """Return the types of raw features and valid frames.

    Args:
        spec: Audio spec of the features.
    """
    return [tf.TensorSpec([None, *spec.feature_shape], tf.float32), tf.TensorSpec([None], tf.int64)]


def zscore_constants(mean: tf.Tensor, variance: tf.Tensor) -> Constants:
    """Return the constants that give each feature mean 0 and variance 1.

    Args:
        mean: Mean of each feature, float64 ``[features]``.
        variance: Variance of each feature, float64 ``[features]``.
    """
    deviation = tf.sqrt(variance)
    varies = deviation > _RELATIVE_RESOLUTION * tf.abs(mean)
    return Constants(mean, tf.where(varies, deviation, tf.zeros_like(deviation)))


def minmax_constants(lowest: tf.Tensor, highest: tf.Tensor) -> Constants:
    """Return the constants that map each feature to the range from 0 to 1.

    Args:
        lowest: Least value of each feature, float64 ``[features]``.
        highest: Greatest value of each feature, float64 ``[features]``.
    """
    return Constants(lowest, highest - lowest)


def normalise(features: tf.Tensor, valid_frames: tf.Tensor, constants: Constants, spec: AudioSpec) -> tf.Tensor:
    """Return normalised features, float32 ``[batch, *feature_shape]``; frames that are not valid become 0.

    Args:
        features: float32 ``[batch, *feature_shape]``.
        valid_frames: Number of valid frames, integer ``[batch]``.
        constants: Constants of the normalisation.
        spec: Audio spec of the features.
    """
    normalised = tf.math.divide_no_nan(tf.cast(features, tf.float64) - constants.centre, constants.width)
    if spec.has_frames:
        valid = _valid(valid_frames, spec)[..., tf.newaxis]
        normalised = tf.where(valid, normalised, tf.zeros_like(normalised))
    return tf.cast(normalised, tf.float32)


def _valid(valid_frames: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    return tf.sequence_mask(valid_frames, spec.window_frames)


def _dense_features(features: Any, spec: AudioSpec) -> tf.Tensor:
    if not isinstance(features, tf.Tensor) or tuple(features.shape[1:]) != spec.feature_shape:
        seen = features.shape[1:] if isinstance(features, tf.Tensor) else type(features).__name__
        raise ValueError(
            f"{examples.FEATURES} has the shape {seen}; allowed by the audio spec: {spec.feature_shape}. "
            "Give the feature this fixed shape in the schema."
        )
    return features
