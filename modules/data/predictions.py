"""Predictions of a SavedModel for the examples of a split."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from modules.data import examples

_BATCH = 64

_DESCRIPTION = {
    examples.CLIP_ID: tf.io.FixedLenFeature([], tf.string),
    examples.EMOTION_ID: tf.io.FixedLenFeature([], tf.int64),
    examples.SPEAKER: tf.io.FixedLenFeature([], tf.string),
    examples.CORPUS: tf.io.FixedLenFeature([], tf.string),
    examples.SEX: tf.io.FixedLenFeature([], tf.string),
    examples.INTENSITY: tf.io.FixedLenFeature([], tf.string),
    examples.DURATION_SEC: tf.io.FixedLenFeature([], tf.float32),
    examples.WINDOW_SEC: tf.io.FixedLenFeature([], tf.float32),
    examples.SPEECH: tf.io.FixedLenFeature([], tf.float32),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitExamples:
    """The examples of one split, ordered by clip.

    Attributes:
        serialized: ``tf.Example`` bytes of each clip.
        columns: Description of the clips: an array ``[clips]`` by name of :mod:`modules.data.examples`.
    """

    serialized: tuple[bytes, ...]
    columns: dict[str, np.ndarray]

    def column(self, name: str) -> list[Any]:
        """Return a column as texts or numbers."""
        values = self.columns[name].tolist()
        return [value.decode() for value in values] if self.columns[name].dtype == object else values


def read_examples(split_uri: str) -> SplitExamples:
    """Read the gzipped TFRecords in the folder ``split_uri``."""
    files = sorted(tf.io.gfile.glob(f"{split_uri}/*.gz"))
    serialized = list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())
    parsed = {name: column.numpy() for name, column in tf.io.parse_example(serialized, _DESCRIPTION).items()}
    order = np.argsort(parsed[examples.CLIP_ID])
    return SplitExamples(
        serialized=tuple(serialized[index] for index in order),
        columns={name: column[order] for name, column in parsed.items()},
    )


def predict(model_dir: str, split: SplitExamples) -> np.ndarray:
    """Return probabilities from the model's ``examples`` signature.

    Args:
        model_dir: Folder of the SavedModel.
        split: Examples to predict.

    Returns:
        float32 ``[clips, emotions]``.
    """
    signature = tf.saved_model.load(model_dir).signatures["examples"]
    batches = [
        signature(examples=tf.constant(split.serialized[start : start + _BATCH]))["probabilities"].numpy()
        for start in range(0, len(split.serialized), _BATCH)
    ]
    return np.concatenate(batches)
