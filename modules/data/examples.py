"""Format of the ``tf.Example`` that the ExampleGen writes and all later components read."""

import numpy as np
import tensorflow as tf

from modules.audio.spec import AudioSpec
from modules.data.clips import Clip

FEATURES = "features"
VALID_FRAMES = "valid_frames"
EMOTION = "emotion"
EMOTION_ID = "emotion_id"
SPEAKER = "speaker"
SEX = "sex"
INTENSITY = "intensity"
CORPUS = "corpus"
CLIP_ID = "clip_id"
AUGMENTATION = "augmentation"
DURATION_SEC = "duration_sec"
WINDOW_SEC = "window_sec"
SPEECH = "speech"
NATIVE_SAMPLE_RATE_HZ = "native_sample_rate_hz"
AUDIO_SPEC = "audio_spec"


def make_example(
    clip: Clip,
    *,
    emotion_id: int,
    features: np.ndarray,
    valid_frames: int,
    augmentation: str,
    duration_sec: float,
    window_sec: float,
    speech: float,
    native_sample_rate_hz: int,
    spec: AudioSpec,
) -> tf.train.Example:
    """Return the example of one clip, or of one augmented copy.

    Args:
        clip: Description of the clip.
        emotion_id: Position of its emotion among those of the model.
        features: float32 of shape ``spec.feature_shape``.
        valid_frames: Frames of the window that the recording fills; the rest is padding.
        augmentation: Name of the variant, ``plain`` for the recording itself.
        duration_sec: Length of the whole recording, not of the window.
        window_sec: Start of the window in the recording, in seconds.
        speech: Probability that the window of the recording itself holds speech.
        native_sample_rate_hz: Sample rate of the file.
        spec: Audio spec of the features.
    """
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                FEATURES: _floats(features.ravel().tolist()),  # a list is copied faster than an array
                VALID_FRAMES: _ints(valid_frames),
                EMOTION: _text(clip.emotion),
                EMOTION_ID: _ints(emotion_id),
                SPEAKER: _text(clip.speaker),
                SEX: _text(clip.sex),
                INTENSITY: _text(clip.intensity),
                CORPUS: _text(clip.corpus),
                CLIP_ID: _text(clip.clip_id),
                AUGMENTATION: _text(augmentation),
                DURATION_SEC: _floats([duration_sec]),
                WINDOW_SEC: _floats([window_sec]),
                SPEECH: _floats([speech]),
                NATIVE_SAMPLE_RATE_HZ: _ints(native_sample_rate_hz),
                AUDIO_SPEC: _text(spec.fingerprint),
            }
        )
    )


def model_input_spec(spec: AudioSpec) -> dict[str, tf.io.FixedLenFeature]:
    """Return the parsing spec of a model's inputs, which clients can send: no labels.

    Args:
        spec: Audio spec of the model.
    """
    return {
        FEATURES: tf.io.FixedLenFeature(spec.feature_shape, tf.float32),
        VALID_FRAMES: tf.io.FixedLenFeature([], tf.int64),
    }


def _floats(values: list[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _ints(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _text(value: str) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
