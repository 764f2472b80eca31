"""One small set of transformed examples and one exported model, shared by the tests that need them."""

import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
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

RAW_SPEC_OF_SCALARS = {
    examples.VALID_FRAMES: tf.int64,
    examples.EMOTION_ID: tf.int64,
    examples.SPEAKER: tf.string,
    examples.CORPUS: tf.string,
    examples.CLIP_ID: tf.string,
    examples.AUGMENTATION: tf.string,
    examples.AUDIO_SPEC: tf.string,
}


@dataclasses.dataclass(frozen=True)
class Transformed:
    """Output of a Transform component."""

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
def run_transform() -> Callable[..., dict[str, list[bytes]]]:
    """Run the real preprocessing function on Beam; analyse ``train`` alone, and write the transform graph."""

    def run(
        spec: AudioSpec,
        splits: Mapping[str, list[bytes]],
        folder: Path,
        normalisation: str = "zscore",
        batch_size: int | None = None,
    ) -> dict[str, list[bytes]]:
        raw_spec = {examples.FEATURES: tf.io.FixedLenFeature(spec.feature_shape, tf.float32)} | {
            name: tf.io.FixedLenFeature([], dtype) for name, dtype in RAW_SPEC_OF_SCALARS.items()
        }
        metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(raw_spec))
        config = preprocessing.transform_config(spec, normalisation)
        rows = {name: [_parse(record, raw_spec) for record in records] for name, records in splits.items()}
        with (
            beam.Pipeline("FnApiRunner") as pipeline,
            tft_beam.Context(temp_dir=str(folder / "temp"), desired_batch_size=batch_size, force_tf_compat_v1=False),
        ):
            read = {name: pipeline | f"Create {name}" >> beam.Create(row) for name, row in rows.items()}
            analysed, transform_fn = (read["train"], metadata) | tft_beam.AnalyzeAndTransformDataset(
                lambda inputs: preprocessing.preprocessing_fn(inputs, config)
            )
            transform_fn | tft_beam.WriteTransformFn(str(folder / "graph"))
            metadata_io.write_metadata(  # as TFX's Transform does
                dataset_metadata.DatasetMetadata(schema.load(spec)), str(folder / "graph" / "metadata")
            )
            for name in splits:
                data, _ = (
                    analysed
                    if name == "train"
                    else ((read[name], metadata), transform_fn) | f"Transform {name}" >> tft_beam.TransformDataset()
                )
                coder = tft.coders.ExampleProtoCoder(analysed[1].schema)
                (
                    data
                    | f"Encode {name}" >> beam.Map(coder.encode)
                    | f"Write {name}"
                    >> beam.io.WriteToTFRecord(str(folder / name / "examples"), file_name_suffix=".gz", num_shards=2)
                )
        return {name: sorted(_records(folder / name)) for name in splits}

    def _records(folder: Path) -> Iterator[bytes]:
        files = [str(path) for path in sorted(folder.iterdir())]
        return tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()

    def _parse(record: bytes, raw_spec: Mapping[str, tf.io.FixedLenFeature]) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in tf.io.parse_single_example(record, raw_spec).items()}

    return run


@pytest.fixture(scope="session")
def transformed(
    make_raw_example: Callable[..., bytes],
    run_transform: Callable[..., dict[str, list[bytes]]],
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
