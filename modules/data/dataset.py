"""Transformed examples in memory, in an order that does not depend on the number of workers."""

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
    """Normalised clips with their labels, ordered by clip and augmentation.

    Attributes:
        features: Normalised features, float32 ``[clips, *feature_shape]``.
        valid_frames: Frames that each recording fills, int32 ``[clips]``.
        emotion_ids: Indices into :data:`modules.data.labels.EMOTIONS`, int32 ``[clips]``.
        speakers: Names of the speakers, ``[clips]``.
    """

    features: np.ndarray
    valid_frames: np.ndarray
    emotion_ids: np.ndarray
    speakers: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """Inputs of a model family."""
        return {examples.FEATURES: self.features, examples.VALID_FRAMES: self.valid_frames}

    @property
    def targets(self) -> np.ndarray:
        """One-hot emotions, float32 ``[clips, emotions]``."""
        return keras.utils.to_categorical(self.emotion_ids, len(EMOTIONS)).astype(np.float32)


def read_split(file_patterns: Sequence[str], transform: tft.TFTransformOutput, spec: AudioSpec) -> Split:
    """Read gzipped TFRecord files of transformed examples.

    The files are read twice, first for the names that order the clips, so that memory holds the features only once.

    Args:
        file_patterns: Glob patterns of the files.
        transform: Output of the Transform component, for the types of the features.
        spec: Audio spec of the examples.

    Raises:
        FileNotFoundError: The files hold no example.
        ValueError: A feature is not finite. ReLU turns NaN into 0, so a network would train on it silently.
        AudioSpecMismatch: The examples were made with another audio spec.
    """
    files = sorted(path for pattern in file_patterns for path in tf.io.gfile.glob(pattern))
    feature_spec = transform.transformed_feature_spec()
    positions = _positions(files, feature_spec, spec)
    if not len(positions):
        raise FileNotFoundError(
            f"the {len(files)} files that match {', '.join(file_patterns)} hold no example; ingest recordings first"
        )
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
            f"{(~np.isfinite(split.features)).sum()} values of {len(split)} clips are non-finite; check the recordings"
        )
    return split


def _positions(files: list[str], feature_spec: dict[str, object], spec: AudioSpec) -> np.ndarray:
    """Return the rank of each example of the files by clip and augmentation, int64 ``[examples]``."""
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
