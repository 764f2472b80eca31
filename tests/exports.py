"""Exports of models with random weights, sound and faulty."""

from pathlib import Path

import apache_beam as beam
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

import schema
from modules import models
from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits
from modules.audio.spec import AudioSpec
from modules.data import examples, preprocessing
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS
from modules.export import signatures
from tests import encoder_arrays


def export_random_model(
    family: str, folder: Path, limits: AudioLimits = DEFAULT_LIMITS, temperature: float = 1.0
) -> Path:
    """Export a model of the named family below a folder."""
    audio = models.family_named(family).recipe.get("audio", {})
    spec = AudioSpec(**audio)
    write_transform_graph(spec, folder / "graph")
    keras.utils.set_random_seed(1)
    model = models.build(family, input_shape=spec.feature_shape, classes=len(EMOTIONS))
    rng = np.random.default_rng(0)
    for statistics in model.non_trainable_weights:  # of batch normalisation: not the initial values
        statistics.assign_add(rng.uniform(0, 0.1, statistics.shape))
    transform = tft.TFTransformOutput(str(folder / "graph"))
    with encoder_arrays.fetched(folder / "encoders"):
        signatures.export(model, transform, spec, str(folder / "exported"), limits=limits, temperature=temperature)
    return folder / "exported"


def export_with_keras_variables(folder: Path) -> Path:
    """Export a model that holds Keras's variables, which Keras saves as copies that no function reads."""
    served_module = signatures.served_module

    def served_module_with_keras_variables(model, *arguments, **options):
        module = served_module(model, *arguments, **options)
        module.variables_ = list(model.variables)
        return module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "served_module", served_module_with_keras_variables)
        return export_random_model("original_cnn", folder)


def write_transform_graph(spec: AudioSpec, folder: Path, normalisation: str = "zscore") -> None:
    """Run the real preprocessing over a few examples with random features."""
    rng = np.random.default_rng(0)
    clip = Clip(path="a.wav", corpus="toy", emotion="sad", speaker="toy-01")
    packed = [
        examples.make_example(
            clip,
            emotion_id=EMOTIONS.index(clip.emotion),
            features=rng.normal(size=spec.feature_shape).astype(np.float32),
            valid_frames=spec.window_frames,
            augmentation="plain",
            duration_sec=3.0,
            window_sec=0.0,
            speech=1.0,
            native_sample_rate_hz=48_000,
            spec=spec,
        )
        for _ in range(8)
    ]
    scalars = {examples.VALID_FRAMES: tf.int64, examples.EMOTION_ID: tf.int64}
    scalars |= dict.fromkeys(
        (examples.SPEAKER, examples.CORPUS, examples.CLIP_ID, examples.AUGMENTATION, examples.AUDIO_SPEC), tf.string
    )
    feature_spec = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in scalars.items()}
    feature_spec[examples.FEATURES] = tf.io.FixedLenFeature(spec.feature_shape, tf.float32)
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(feature_spec))
    rows = [
        {
            name: value.numpy()
            for name, value in tf.io.parse_single_example(example.SerializeToString(), feature_spec).items()
        }
        for example in packed
    ]
    config = preprocessing.transform_config(spec, normalisation)
    with (
        beam.Pipeline("FnApiRunner") as pipeline,
        tft_beam.Context(temp_dir=f"{folder}-temp", force_tf_compat_v1=False),
    ):
        transform_fn = (pipeline | beam.Create(rows), metadata) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing.preprocessing_fn(inputs, config)
        )
        transform_fn | tft_beam.WriteTransformFn(str(folder))
    metadata_io.write_metadata(dataset_metadata.DatasetMetadata(schema.load(spec)), str(folder / "metadata"))
