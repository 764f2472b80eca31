"""Adaptation of a trained model to another place by recordings without labels.

Schuller et al., Cross-Corpus Acoustic Emotion Recognition: Variances and Strategies (2010), call it corpus
normalisation. It assumes that both places hold about the same mixture of emotions.
"""

from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf

from modules.audio.spec import AudioSpec
from modules.data.preprocessing import Constants


class Adaptation(NamedTuple):
    """Linear map of normalised features, float64 ``[features]``.

    Attributes:
        scale: Factor of each feature.
        offset: Summand of each scaled feature.
    """

    scale: tf.Tensor
    offset: tf.Tensor

    @classmethod
    def identity(cls, spec: AudioSpec) -> Self:
        """Return the adaptation that changes nothing.

        Args:
            spec: Audio spec of the features.
        """
        features = spec.feature_shape[-1]
        return cls(tf.ones([features], tf.float64), tf.zeros([features], tf.float64))

    @classmethod
    def between(cls, target: Constants, source: Constants) -> Self:
        """Return the map that gives another place's features the mean and deviation of the training clips.

        A feature that is constant in the other place becomes the mean of the training clips.

        Args:
            target: Mean and deviation of normalised features over recordings of the other place.
            source: Mean and deviation of such features over plain training clips.
        """
        scale = tf.math.divide_no_nan(tf.constant(np.asarray(source.width)), np.asarray(target.width))
        return cls(scale, source.centre - scale * target.centre)


def adapt(features: tf.Tensor, valid_frames: tf.Tensor, adaptation: Adaptation, spec: AudioSpec) -> tf.Tensor:
    """Move and scale normalised features.

    Args:
        features: Normalised features, float32 ``[batch, *feature_shape]``.
        valid_frames: Number of valid frames, integer ``[batch]``.
        adaptation: Scale and offset of each feature.
        spec: Audio spec of the features.

    Returns:
        float32 ``[batch, *feature_shape]``; frames that are not valid stay as they are.
    """
    adapted = tf.cast(tf.cast(features, tf.float64) * adaptation.scale + adaptation.offset, tf.float32)
    if not spec.has_frames:
        return adapted
    return tf.where(tf.sequence_mask(valid_frames, spec.window_frames)[..., tf.newaxis], adapted, features)
