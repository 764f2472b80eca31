"""Peak memory of training at growing numbers of clips: ``python -m benchmarks.memory [--clips N ...]``.

The clips are synthetic examples in the shape of ``attentive_crnn``, written as the AudioExampleGen writes them.
Each number of clips is read and trained on for one epoch in a process of its own, by a small network of this family:
under a bound on memory that all numbers exceed, and under the default one, ``training.memory_mib``.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from benchmarks import command, document
from modules.audio.spec import AudioSpec
from modules.data import examples
from modules.data.clips import Clip
from modules.data.dataset import read_split
from modules.data.labels import EMOTIONS
from modules.training import trainer
from pipeline.config import load_config

CLIPS = (2_000, 20_000, 200_000)
BOUNDS_MIB = (64, load_config().training.memory_mib)
HELD_OUT = 500
SHARDS = 4
NETWORK = {"filters": 4, "recurrent_units": 4, "attention_units": 4, "utterance_units": 4}
TEXTS = (examples.CLIP_ID, examples.AUGMENTATION, examples.AUDIO_SPEC, examples.SPEAKER, examples.CORPUS)
INTEGERS = (examples.EMOTION_ID, examples.VALID_FRAMES)


def write_split(folder: Path, split: str, clips: int, spec: AudioSpec) -> None:
    """Write the examples of a split.

    Args:
        folder: Folder of the splits.
        split: Name of the split.
        clips: Number of clips.
        spec: Audio spec of the examples.
    """
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    for shard in range(SHARDS):
        with tf.io.TFRecordWriter(str(folder / f"{split}-{shard}.gz"), options) as writer:
            for number in range(shard, clips, SHARDS):
                writer.write(synthetic_example(number, split, spec))


def synthetic_example(number: int, split: str, spec: AudioSpec) -> bytes:
    """Return a serialized example, whose features are the same number."""
    emotion = number % len(EMOTIONS)
    clip = Clip(path=f"{number}.wav", corpus="synthetic", emotion=EMOTIONS[emotion], speaker=f"{split}-{number % 40}")
    return examples.make_example(
        clip,
        emotion_id=emotion,
        features=np.full(spec.feature_shape, emotion - 3, np.float32),
        valid_frames=spec.window_frames,
        augmentation="plain",
        duration_sec=spec.window_sec,
        window_sec=0.0,
        speech=1.0,
        native_sample_rate_hz=spec.sample_rate_hz,
        spec=spec,
    ).SerializeToString()


def train(folder: Path, bound_mib: int) -> dict[str, float]:
    """Train on the examples for one epoch; return seconds of CPU time and the peak memory in MiB.

    Args:
        folder: Folder of the splits.
        bound_mib: Size of the features in MiB up to which they are kept in memory.
    """
    config = load_config()
    settings = config.training.replace(epochs=1, calibrate=False, hyperparameters=NETWORK, memory_mib=bound_mib)
    transform: Any = types.SimpleNamespace(
        raw_feature_spec=lambda: feature_spec(config.audio),
        raw_metadata=types.SimpleNamespace(schema=schema()),
        transform_raw_features=lambda raw: raw,  # synthetic features are normalised
    )
    started_sec = time.process_time()
    train_split, held_out = (
        read_split([str(folder / f"{split}-*.gz")], transform, config.audio, max_bytes=settings.max_bytes)
        for split in ("train", "eval")
    )
    read_sec = time.process_time()
    trainer.train_model(settings, config.audio, train_split, held_out)
    return {
        "clips": len(train_split),
        "bound_mib": bound_mib,
        "read_sec": read_sec - started_sec,
        "epoch_sec": time.process_time() - read_sec,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def feature_spec(spec: AudioSpec) -> dict[str, tf.io.FixedLenFeature]:
    """Return the types of the examples."""
    types_of = dict.fromkeys(TEXTS, tf.string) | dict.fromkeys(INTEGERS, tf.int64)
    scalars = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in types_of.items()}
    return scalars | {examples.FEATURES: tf.io.FixedLenFeature(spec.feature_shape, tf.float32)}


def schema() -> schema_pb2.Schema:
    """Return the part of the examples' schema that the Trainer reads: the emotions."""
    domain = schema_pb2.StringDomain(value=EMOTIONS)
    return schema_pb2.Schema(feature=[schema_pb2.Feature(name=examples.EMOTION, string_domain=domain)])


def measure(clips: int, bounds_mib: Sequence[int]) -> list[dict[str, float]]:
    """Write examples and train on them under each bound, in a process of its own.

    Args:
        clips: Number of training clips.
        bounds_mib: Bounds in MiB.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for split, count in (("train", clips), ("eval", HELD_OUT)):
            write_split(Path(folder), split, count, load_config().audio)
        return [_train_in_process(folder, bound_mib) for bound_mib in bounds_mib]


def _train_in_process(folder: str, bound_mib: int) -> dict[str, float]:
    arguments = [sys.executable, "-m", __spec__.name, "--examples", folder, "--bounds-mib", str(bound_mib)]
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout.splitlines()[-1], file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _cells(row: dict[str, float]) -> list[str]:
    whole = [f"{row[name]:,.0f}" for name in ("clips", "bound_mib", "peak_mib")]
    return [*whole, *(f"{row[name]:.0f}" for name in ("read_sec", "epoch_sec"))]


def main() -> None:
    """Print or write the table."""
    parser = command.make_parser_without_data(__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=CLIPS, help="numbers of clips")
    parser.add_argument("--bounds-mib", type=int, nargs="+", default=BOUNDS_MIB, help="bounds on memory in MiB")
    parser.add_argument("--examples", type=Path, help="train on the examples of this folder, and print the figures")
    options = parser.parse_args()
    if options.examples:
        print(json.dumps(train(options.examples, *options.bounds_mib)))
        return
    rows = [_cells(row) for clips in options.clips for row in measure(clips, options.bounds_mib)]
    heads = ["training clips", "bound, MiB", "peak memory, MiB", "reading, CPU s", "one epoch, CPU s"]
    command.publish({"memory": document.table(heads, rows)}, options.write)


if __name__ == "__main__":
    main()
