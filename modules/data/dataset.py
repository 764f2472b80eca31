"""Transformed examples in memory, in an order that no number of workers changes."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from modules.audio.spec import AudioSpec
from modules.data import examples
from modules.data.labels import EMOTIONS

_READ_BATCH = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Normalised clips and what they are, ordered by clip and augmentation.

    Attributes:
        features: float32 ``[clips, *feature_shape]``.
        valid_frames: int32 ``[clips]``.
        emotion_ids: int32 ``[clips]``.
        speakers: ``[clips]`` names.
    """

    features: np.ndarray
    valid_frames: np.ndarray
    emotion_ids: np.ndarray
    speakers: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """What a model family takes."""
        return {examples.FEATURES: self.features, examples.VALID_FRAMES: self.valid_frames}

    @property
    def targets(self) -> np.ndarray:
        """float32 ``[clips, emotions]``, one 1 per row."""
        return keras.utils.to_categorical(self.emotion_ids, len(EMOTIONS)).astype(np.float32)


def read_split(file_patterns: Sequence[str], transform: tft.TFTransformOutput, spec: AudioSpec) -> Split:
    """Reads gzipped TFRecord files of transformed examples.

    The files are read twice, first for the names that order the clips, so that the features are never held
    more than once.

    Raises:
        FileNotFoundError: No file, or no example in them.
        ValueError: A feature that is not a finite number: ReLU turns NaN into 0, and a network would train on it
            without a word.
        AudioSpecMismatch: The examples were made with another audio spec.
    """
    files = sorted(path for pattern in file_patterns for path in tf.io.gfile.glob(pattern))
    feature_spec = transform.transformed_feature_spec()
    positions = _positions(files, feature_spec, spec)
    if not len(positions):
        raise FileNotFoundError(f"no example in {len(files)} files that match {', '.join(file_patterns)}")
    split = Split(
        features=np.empty((len(positions), *spec.feature_shape), np.float32),
        valid_frames=np.empty(len(positions), np.int32),
        emotion_ids=np.empty(len(positions), np.int32),
        speakers=np.empty(len(positions), object),
    )
    names = (examples.FEATURES, examples.VALID_FRAMES, examples.EMOTION_ID, examples.SPEAKER)
    start = 0
    for batch in _batches(files, {name: feature_spec[name] for name in names}):
        rows = positions[start : start + len(batch[examples.EMOTION_ID])]
        split.features[rows] = batch[examples.FEATURES]
        split.valid_frames[rows] = batch[examples.VALID_FRAMES]
        split.emotion_ids[rows] = batch[examples.EMOTION_ID]
        split.speakers[rows] = batch[examples.SPEAKER]
        start += len(rows)
    if not np.isfinite(split.features).all():
        raise ValueError(
            f"{(~np.isfinite(split.features)).sum()} features of {len(split)} clips are not finite numbers"
        )
    return split


def _positions(files: list[str], feature_spec: dict[str, object], spec: AudioSpec) -> np.ndarray:
    """Where the examples, as they come from the files, belong when ordered by clip and augmentation."""
    names = (examples.CLIP_ID, examples.AUGMENTATION, examples.AUDIO_SPEC)
    keys: list[tuple[bytes, bytes]] = []
    for batch in _batches(files, {name: feature_spec[name] for name in names}):
        for fingerprint in set(batch[examples.AUDIO_SPEC].tolist()):
            spec.require_same(fingerprint.decode(), whose="an example to train on")
        keys.extend(zip(batch[examples.CLIP_ID].tolist(), batch[examples.AUGMENTATION].tolist(), strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    positions = np.empty(len(keys), np.int64)
    positions[order] = np.arange(len(keys))
    return positions


def _batches(files: list[str], feature_spec: dict[str, object]) -> tf.data.NumpyIterator:
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(_READ_BATCH)
    return records.map(lambda serialized: tf.io.parse_example(serialized, feature_spec)).as_numpy_iterator()
