"""Peak memory of training at growing numbers of clips: ``python -m benchmarks.memory [--clips N ...]``.

The clips are synthetic examples in the default family's shape, written as the Transform component writes them. Each
number of clips is read and trained on for one epoch in a process of its own, by a small network of the default family;
the default bound on memory, ``training.memory_mib``, applies.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
import types
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


def train(folder: Path) -> dict[str, float]:
    """Train on the examples for one epoch; return durations in seconds and the peak memory in MiB.

    Args:
        folder: Folder of the splits.
    """
    config = load_config()
    settings = config.training.replace(epochs=1, calibrate=False, hyperparameters=NETWORK)
    transform: Any = types.SimpleNamespace(
        transformed_feature_spec=lambda: feature_spec(config.audio), raw_metadata=types.SimpleNamespace(schema=schema())
    )
    started_sec = time.monotonic()
    train_split, held_out = (
        read_split([str(folder / f"{split}-*.gz")], transform, config.audio, max_bytes=settings.max_bytes)
        for split in ("train", "eval")
    )
    read_sec = time.monotonic()
    trainer.train_model(settings, config.audio, train_split, held_out)
    return {
        "clips": len(train_split),
        "read_sec": read_sec - started_sec,
        "epoch_sec": time.monotonic() - read_sec,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def feature_spec(spec: AudioSpec) -> dict[str, tf.io.FixedLenFeature]:
    """Return the types of transformed examples."""
    types_of = dict.fromkeys(TEXTS, tf.string) | dict.fromkeys(INTEGERS, tf.int64)
    scalars = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in types_of.items()}
    return scalars | {examples.FEATURES: tf.io.FixedLenFeature(spec.feature_shape, tf.float32)}


def schema() -> schema_pb2.Schema:
    """Return the part of the examples' schema that the Trainer reads: the emotions."""
    domain = schema_pb2.StringDomain(value=EMOTIONS)
    return schema_pb2.Schema(feature=[schema_pb2.Feature(name=examples.EMOTION, string_domain=domain)])


def measure(clips: int) -> dict[str, float]:
    """Write examples and train on them in a process of its own.

    Args:
        clips: Number of training clips.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for split, count in (("train", clips), ("eval", HELD_OUT)):
            write_split(Path(folder), split, count, load_config().audio)
        arguments = [sys.executable, "-m", __spec__.name, "--examples", folder]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print or write the table."""
    parser = command.make_parser_without_data(__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=CLIPS, help="numbers of clips")
    parser.add_argument("--examples", type=Path, help="train on the examples of this folder, and print the figures")
    options = parser.parse_args()
    if options.examples:
        print(json.dumps(train(options.examples)))
        return
    measured = [measure(clips) for clips in options.clips]
    rows = [
        [f"{row['clips']:,}", f"{row['peak_mib']:,.0f}", f"{row['read_sec']:.0f}", f"{row['epoch_sec']:.0f}"]
        for row in measured
    ]
    heads = ["training clips", "peak memory, MiB", "reading, s", "one epoch, s"]
    command.publish({"memory": document.table(heads, rows)}, options.write)


if __name__ == "__main__":
    main()
