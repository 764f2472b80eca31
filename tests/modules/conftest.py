"""One small set of examples with its normalisation and one exported model, shared by the tests that need them."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

import schema
from modules.audio.spec import AudioSpec
from modules.data import examples, preprocessing
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS
from modules.training import trainer
from modules.training.settings import TrainingSettings
from tests.original import ORIGINAL_AUDIO, ORIGINAL_TRAINING


@dataclasses.dataclass(frozen=True)
class Transformed:
    """Ingested examples and the output of a Transform component."""

    spec: AudioSpec
    graph_dir: str
    train_files: list[str]
    eval_files: list[str]

    def fn_args(self, settings: TrainingSettings, folder: Path, **more: object) -> types.SimpleNamespace:
        """Return arguments as TFX's Trainer and Tuner pass them."""
        values = {
            "transform_graph_path": self.graph_dir,
            "train_files": self.train_files,
            "eval_files": self.eval_files,
            "serving_model_dir": str(folder / "model" / "Format-Serving"),
            "model_run_dir": str(folder / "run"),
            "working_dir": str(folder / "working"),
            "custom_config": trainer.trainer_config(self.spec, settings),
            "hyperparameters": None,
        }
        return types.SimpleNamespace(**(values | more))


@pytest.fixture(scope="session")
def make_raw_example() -> Callable[..., bytes]:
    """Return a serialized example as the ExampleGen's, with features around a centre of its emotion."""

    def make(
        spec: AudioSpec, emotion_id: int, number: int, valid_frames: int | None = None, speaker: str = "toy-01"
    ) -> bytes:
        rng = np.random.default_rng([emotion_id, number])
        features = rng.normal(loc=emotion_id, scale=2.0, size=spec.feature_shape).astype(np.float32)
        clip = Clip(
            path=f"{EMOTIONS[emotion_id]}/{number:03}.wav", corpus="toy", emotion=EMOTIONS[emotion_id], speaker=speaker
        )
        return examples.make_example(
            clip,
            emotion_id=emotion_id,
            features=features,
            valid_frames=spec.window_frames if valid_frames is None else valid_frames,
            augmentation="plain",
            duration_sec=2.5,
            window_sec=0.0,
            speech=1.0,
            native_sample_rate_hz=48_000,
            spec=spec,
        ).SerializeToString()

    return make


@pytest.fixture(scope="session")
def run_transform() -> Callable[..., dict[str, np.ndarray]]:
    """Run the real preprocessing function on Beam; analyse ``train`` alone, and write the transform graph.

    The result has the normalised features of each split, in the order of its examples, which are written to `folder`.
    """

    def run(
        spec: AudioSpec,
        splits: Mapping[str, list[bytes]],
        folder: Path,
        normalisation: str = "zscore",
        batch_size: int | None = None,
    ) -> dict[str, np.ndarray]:
        raw_spec = {
            examples.FEATURES: tf.io.FixedLenFeature(spec.feature_shape, tf.float32),
            examples.VALID_FRAMES: tf.io.FixedLenFeature([], tf.int64),
        }
        metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(raw_spec))
        config = preprocessing.transform_config(spec, normalisation)
        rows = {name: tf.io.parse_example(records, raw_spec) for name, records in splits.items()}
        columns = {name: values.numpy() for name, values in rows["train"].items()}
        train = [{name: values[row] for name, values in columns.items()} for row in range(len(splits["train"]))]
        with (
            beam.Pipeline("FnApiRunner") as pipeline,
            tft_beam.Context(temp_dir=str(folder / "temp"), desired_batch_size=batch_size, force_tf_compat_v1=False),
        ):
            analysed = (pipeline | beam.Create(train), metadata) | tft_beam.AnalyzeDataset(
                lambda inputs: preprocessing.preprocessing_fn(inputs, config)
            )
            analysed | tft_beam.WriteTransformFn(str(folder / "graph"))
        metadata_io.write_metadata(  # as TFX's Transform does
            dataset_metadata.DatasetMetadata(schema.load(spec)), str(folder / "graph" / "metadata")
        )
        normalise = preprocessing.learned_normalisation(tft.TFTransformOutput(str(folder / "graph")), spec)
        for name, records in splits.items():
            _write(folder / name, records)
        return {name: normalise(*values.values()).numpy() for name, values in rows.items()}

    def _write(folder: Path, records: Sequence[bytes]) -> None:
        folder.mkdir()
        for part in range(2):
            with tf.io.TFRecordWriter(str(folder / f"examples-{part}.gz"), "GZIP") as writer:
                for record in records[part::2]:
                    writer.write(record)

    return run


@pytest.fixture(scope="session")
def transformed(
    make_raw_example: Callable[..., bytes],
    run_transform: Callable[..., dict[str, np.ndarray]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Transformed:
    """84 training and 28 held-out clips of the utterance family."""
    spec, folder = ORIGINAL_AUDIO, tmp_path_factory.mktemp("transformed")
    splits = {
        "train": [make_raw_example(spec, emotion, number) for emotion in range(7) for number in range(12)],
        "eval": [
            make_raw_example(spec, emotion, number, speaker="toy-02")
            for emotion in range(7)
            for number in range(12, 16)
        ],
    }
    run_transform(spec, splits, folder)
    return Transformed(
        spec=spec,
        graph_dir=str(folder / "graph"),
        train_files=[str(folder / "train" / "*")],
        eval_files=[str(folder / "eval" / "*")],
    )


@pytest.fixture(scope="session")
def quick_settings() -> TrainingSettings:
    return ORIGINAL_TRAINING.replace(epochs=2, hyperparameters={"filters": 8})


@pytest.fixture(scope="session")
def exported(
    transformed: Transformed, quick_settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory
) -> types.SimpleNamespace:
    """The ``fn_args`` of a finished training."""
    fn_args = transformed.fn_args(quick_settings, tmp_path_factory.mktemp("exported"))
    trainer.run_fn(fn_args)
    return fn_args
