"""Export of examples as a table in Parquet."""

import itertools
import json
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tensorflow as tf

from components.audio_example_gen.data_version import NoDataVersion
from components.audio_example_gen.file_names import SUMMARY_FILE
from modules.audio.spec import AudioSpec
from modules.common import addresses
from modules.common.files import write_atomically
from modules.data import examples
from modules.data.labels import SPLITS

SPLIT = "split"
AUDIO_SPEC_KEY = b"audio_spec"
FEATURE_SHAPE_KEY = b"feature_shape"

_BATCH = 256
_COLUMNS = {
    examples.CLIP_ID: pa.string(),
    examples.CORPUS: pa.string(),
    examples.SPEAKER: pa.string(),
    examples.SEX: pa.string(),
    examples.EMOTION: pa.string(),
    examples.EMOTION_ID: pa.int64(),
    examples.INTENSITY: pa.string(),
    examples.AUGMENTATION: pa.string(),
    examples.DURATION_SEC: pa.float32(),
    examples.WINDOW_SEC: pa.float32(),
    examples.SPEECH: pa.float32(),
    examples.NATIVE_SAMPLE_RATE_HZ: pa.int64(),
    examples.VALID_FRAMES: pa.int64(),
}
_TENSORS = {pa.string(): tf.string, pa.int64(): tf.int64, pa.float32(): tf.float32}


def export(examples_dir: str, out: Path) -> int:
    """Write all examples with features and labels to one file, a few hundred at a time.

    Args:
        examples_dir: Folder of the examples, local or in a bucket.
        out: File to write or replace.

    Returns:
        Number of examples.

    Raises:
        NoDataVersion: The folder is not one of examples.
        OSError: A file cannot be read or written.
    """
    spec = _audio_spec(examples_dir)
    schema = _schema(spec)
    count = 0
    with write_atomically(out) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for split in SPLITS:
            for batch in _batches(_records(posixpath.join(examples_dir, f"Split-{split}"))):
                writer.write_table(_table(batch, split, spec, schema))
                count += len(batch)
    return count


def _audio_spec(examples_dir: str) -> AudioSpec:
    try:
        summary = json.loads(addresses.read_bytes(posixpath.join(examples_dir, SUMMARY_FILE)))
    except FileNotFoundError as error:
        raise NoDataVersion(f"{examples_dir} has no {SUMMARY_FILE}; name a folder of examples") from error
    return AudioSpec.model_validate(summary["audio_spec"])


def _schema(spec: AudioSpec) -> pa.Schema:
    fields = [pa.field(SPLIT, pa.string()), *(pa.field(name, kind) for name, kind in _COLUMNS.items())]
    fields.append(pa.field(examples.FEATURES, pa.list_(pa.float32(), int(np.prod(spec.feature_shape)))))
    described = {AUDIO_SPEC_KEY: spec.to_json().encode(), FEATURE_SHAPE_KEY: json.dumps(spec.feature_shape).encode()}
    return pa.schema(fields, metadata=described)


def _records(split_dir: str) -> Iterator[bytes]:
    files = sorted(tf.io.gfile.glob(f"{split_dir}/*.gz"))
    yield from tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()


def _batches(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    records = iter(records)
    while batch := list(itertools.islice(records, _BATCH)):
        yield batch


def _table(batch: list[bytes], split: str, spec: AudioSpec, schema: pa.Schema) -> pa.Table:
    description = {name: tf.io.FixedLenFeature([], _TENSORS[kind]) for name, kind in _COLUMNS.items()}
    size = int(np.prod(spec.feature_shape))
    parsed = tf.io.parse_example(batch, description | {examples.FEATURES: tf.io.FixedLenFeature([size], tf.float32)})
    columns = {name: pa.array(parsed[name].numpy()).cast(kind) for name, kind in _COLUMNS.items()}
    columns[SPLIT] = pa.array([split] * len(batch))
    columns[examples.FEATURES] = pa.FixedSizeListArray.from_arrays(parsed[examples.FEATURES].numpy().ravel(), size)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)
