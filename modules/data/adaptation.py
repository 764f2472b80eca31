"""Adaptation of a trained model to another place by recordings without labels.

Schuller et al., Cross-Corpus Acoustic Emotion Recognition: Variances and Strategies (2010), call it corpus
normalisation. It assumes that both places hold about the same mixture of emotions.
"""

import tensorflow as tf

from modules.audio.spec import AudioSpec
from modules.data.preprocessing import Constants, normalise


def match(
    features: tf.Tensor, valid_frames: tf.Tensor, target: Constants, source: Constants, spec: AudioSpec
) -> tf.Tensor:
    """Move and scale the features of another place's recordings to mean and deviation of the training clips.

    Args:
        features: Normalised features, float32 ``[batch, *feature_shape]``.
        valid_frames: Number of valid frames, integer ``[batch]``.
        target: Mean and deviation of such features over recordings of the other place.
        source: Mean and deviation of such features over plain training clips.
        spec: Audio spec of the features.

    Returns:
        float32 ``[batch, *feature_shape]``; frames that are not valid are 0.
    """
    standard = tf.cast(normalise(features, valid_frames, target, spec), tf.float64)
    matched = tf.cast(standard * source.width + source.centre, tf.float32)
    if not spec.has_frames:
        return matched
    return tf.where(tf.sequence_mask(valid_frames, spec.window_frames)[..., tf.newaxis], matched, 0.0)
