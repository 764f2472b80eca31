"""Examples to train on, in an order that does not depend on the number of workers."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from modules.audio.augmentation import PLAIN
from modules.audio.spec import AudioSpec
from modules.common.arrays import ArrayOnDisk
from modules.data import examples
from modules.data.labels import EMOTIONS
from modules.data.preprocessing import Constants, learned_normalisation
from modules.data.statistics import Statistics

_READ_BATCH = 256
_ORDER = (examples.CLIP_ID, examples.AUGMENTATION)
_LABELS = (examples.EMOTION_ID, examples.SPEAKER, examples.CORPUS)
_READ = (examples.FEATURES, examples.VALID_FRAMES, *_LABELS, examples.AUDIO_SPEC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Normalised clips with their labels, ordered by clip and augmentation.

    Attributes:
        features: Normalised features, float32 ``[clips, *feature_shape]``, in memory or on disk.
        valid_frames: Frames that each recording fills, int32 ``[clips]``.
        emotion_ids: Indices into ``emotions``, int32 ``[clips]``.
        speakers: Names of the speakers, ``[clips]``.
        corpora: Names of their corpora, ``[clips]``.
        emotions: Names of the emotions, in the order of a model's outputs.
    """

    features: np.ndarray | ArrayOnDisk
    valid_frames: np.ndarray
    emotion_ids: np.ndarray
    speakers: np.ndarray
    corpora: np.ndarray
    emotions: tuple[str, ...] = EMOTIONS

    def __len__(self) -> int:
        return len(self.features)

    def inputs(self, rows: slice | np.ndarray) -> dict[str, np.ndarray]:
        """Return the inputs of a model family for some clips.

        Args:
            rows: Positions of the clips.
        """
        return {examples.FEATURES: np.asarray(self.features[rows]), examples.VALID_FRAMES: self.valid_frames[rows]}

    @property
    def targets(self) -> np.ndarray:
        """One-hot emotions, float32 ``[clips, emotions]``."""
        return keras.utils.to_categorical(self.emotion_ids, len(self.emotions)).astype(np.float32)


def read_split(
    file_patterns: Sequence[str], transform: tft.TFTransformOutput, spec: AudioSpec, *, max_bytes: float = math.inf
) -> Split:
    """Read ingested examples and normalise their features.

    Args:
        file_patterns: Glob patterns of gzipped TFRecord files.
        transform: Output of the Transform component.
        spec: Audio spec of the examples.
        max_bytes: Size in bytes up to which the features are kept in memory; larger ones go to a temporary file.

    Raises:
        FileNotFoundError: The files hold no example.
        ValueError: A feature is not finite. ReLU turns NaN into 0, so a network would train on it silently.
        AudioSpecMismatch: The examples were made with another audio spec.
        OSError: The disk has no room for the temporary file.
    """
    files = _files(file_patterns)
    clips, batches = ordered_batches(files, transform.raw_feature_spec(), _READ)
    if not clips:
        raise FileNotFoundError(
            f"the {len(files)} files that match {', '.join(file_patterns)} hold no example; ingest recordings first"
        )
    normalise = learned_normalisation(transform, spec)
    split = _empty_split((clips, *spec.feature_shape), emotions_of(transform), max_bytes)
    for rows, batch in batches:
        for fingerprint in set(batch[examples.AUDIO_SPEC].tolist()):
            spec.require_same(fingerprint.decode(), whose="an example to train on")
        _require_finite(batch[examples.FEATURES])
        split.features[rows] = normalise(batch[examples.FEATURES], batch[examples.VALID_FRAMES])
        split.valid_frames[rows] = batch[examples.VALID_FRAMES]
        split.emotion_ids[rows] = batch[examples.EMOTION_ID]
        split.speakers[rows] = batch[examples.SPEAKER]
        split.corpora[rows] = batch[examples.CORPUS]
    return split


def joined(one: Split, other: Split, *, max_bytes: float = math.inf) -> Split:
    """Return the clips of both, the second after the first.

    Args:
        one: The first.
        other: The second, of the same shape and emotions.
        max_bytes: Size in bytes up to which the features are kept in memory; larger ones go to a temporary file.

    Raises:
        OSError: The disk has no room for the temporary file.
    """
    features = empty_features((len(one) + len(other), *one.features.shape[1:]), max_bytes)
    for part, start in ((one, 0), (other, len(one))):
        for first in range(0, len(part), _READ_BATCH):
            rows = np.arange(first, min(first + _READ_BATCH, len(part)))
            features[start + rows] = np.asarray(part.features[rows])
    columns = ("valid_frames", "emotion_ids", "speakers", "corpora")
    values: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in columns}
    return dataclasses.replace(one, features=features, **values)


def plain_constants(
    file_patterns: Sequence[str], transform: tft.TFTransformOutput, spec: AudioSpec
) -> Constants | None:
    """Return mean and deviation of the normalised features of plain clips, or None if all clips are augmented.

    Args:
        file_patterns: Glob patterns of gzipped TFRecord files of ingested examples.
        transform: Output of the Transform component.
        spec: Audio spec of the examples.
    """
    statistics, group = Statistics(spec), "plain"
    normalise = learned_normalisation(transform, spec)
    names = (examples.FEATURES, examples.VALID_FRAMES, examples.AUGMENTATION)
    found = 0
    for batch in _batches(_files(file_patterns), transform.raw_feature_spec(), names):
        plain = batch[examples.AUGMENTATION] == PLAIN.encode()
        features, valid_frames = batch[examples.FEATURES][plain], batch[examples.VALID_FRAMES][plain]
        statistics.add(normalise(features, valid_frames).numpy(), valid_frames, np.full(len(features), group))
        found += len(features)
    return statistics.constants([group], "zscore") if found else None


def emotions_of(transform: tft.TFTransformOutput) -> tuple[str, ...]:
    """Return the emotions that the schema of the examples allows, in the order of a model's outputs.

    Args:
        transform: Output of the Transform component.
    """
    features = {feature.name: feature for feature in transform.raw_metadata.schema.feature}
    return tuple(features[examples.EMOTION].string_domain.value)


def empty_features(shape: tuple[int, ...], max_bytes: float) -> np.ndarray | ArrayOnDisk:
    """Return room for features, float32: in memory up to ``max_bytes``, else in a temporary file.

    Args:
        shape: ``[clips, *feature_shape]``.
        max_bytes: Size in bytes.
    """
    in_memory = np.dtype(np.float32).itemsize * math.prod(shape) <= max_bytes
    return np.empty(shape, np.float32) if in_memory else ArrayOnDisk.temporary(shape)


def ordered_batches(
    files: Sequence[str], feature_spec: Mapping[str, object], names: Sequence[str]
) -> tuple[int, Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]]:
    """Return the number of examples in gzipped TFRecord files and an iterator over their values.

    The files are read twice, first for what orders the clips, so that memory never holds all features.

    Args:
        files: Paths of the files.
        feature_spec: Types of the features by name, with clip id and augmentation among them.
        names: Names of the features to read.

    Returns:
        The number of examples, and batches of examples: their ranks by clip and augmentation, int64 ``[batch]``, and
        their values by name, each ``[batch, ...]``.
    """
    keys = [
        np.stack([batch[name] for name in _ORDER]).astype(np.bytes_) for batch in _batches(files, feature_spec, _ORDER)
    ]
    order = np.lexsort(np.concatenate(keys, axis=1)[::-1]) if keys else np.empty(0, np.int64)
    rank = np.argsort(order)
    return len(rank), _with_rank(rank, _batches(files, feature_spec, names))


def _files(patterns: Sequence[str]) -> list[str]:
    return sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))


def _with_rank(
    rank: np.ndarray, batches: Iterator[dict[str, np.ndarray]]
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    start = 0
    for batch in batches:
        stop = start + len(next(iter(batch.values())))
        yield rank[start:stop], batch
        start = stop


def _batches(
    files: Sequence[str], feature_spec: Mapping[str, object], names: Sequence[str]
) -> Iterator[dict[str, np.ndarray]]:
    chosen = {name: feature_spec[name] for name in names}
    records = tf.data.TFRecordDataset(list(files), compression_type="GZIP").batch(_READ_BATCH)
    yield from records.map(lambda serialized: tf.io.parse_example(serialized, chosen)).as_numpy_iterator()


def _empty_split(shape: tuple[int, ...], emotions: tuple[str, ...], max_bytes: float) -> Split:
    return Split(
        features=empty_features(shape, max_bytes),
        valid_frames=np.empty(shape[0], np.int32),
        emotion_ids=np.empty(shape[0], np.int32),
        speakers=np.empty(shape[0], object),
        corpora=np.empty(shape[0], object),
        emotions=emotions,
    )


def _require_finite(features: np.ndarray) -> None:
    if not np.isfinite(features).all():
        raise ValueError(
            f"{(~np.isfinite(features)).sum()} of {features.size} values are non-finite; check the recordings"
        )
