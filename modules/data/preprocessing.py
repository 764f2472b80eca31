"""Normalisation, computed over ``train`` by TensorFlow Transform and carried inside the served model."""

from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf
import tensorflow_transform as tft

from modules.audio.spec import AudioSpec
from modules.data import examples

Normalisation = Literal["zscore", "minmax"]

# What a float32 feature can resolve of its own size: a spread below it is rounding and carries nothing.
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
    """Normalises the features and hands on what training needs to know of a clip.

    Utterance features are normalised one by one; features over time per channel over the frames that the
    recording fills, and the frames beyond become 0, the mean.

    Args:
        inputs: Examples as :mod:`modules.data.examples` describes them; ``features`` is ``[batch, *feature_shape]``.
        custom_config: As :func:`transform_config` makes it.
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
            f"{examples.FEATURES} arrives as {seen}; the audio spec makes {spec.feature_shape}. "
            "The schema must give the feature this fixed shape."
        )
    return features


def _centre_and_width(values: tf.Tensor, custom_config: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
    """What to subtract and what to divide by; the latter 0 for a feature that does not vary."""
    if custom_config["normalisation"] == "minmax":
        lowest = tft.min(values, reduce_instance_dims=False)
        return lowest, tft.max(values, reduce_instance_dims=False) - lowest
    mean = tft.mean(values, reduce_instance_dims=False)
    deviation = tf.sqrt(tft.var(values, reduce_instance_dims=False))
    varies = deviation > _RELATIVE_RESOLUTION * tf.abs(mean)
    return mean, tf.where(varies, deviation, tf.zeros_like(deviation))
