import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx.components.example_validator import executor as validator
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

import schema
from components.anomaly_gate.executor import AnomalousData, Executor
from modules.audio.spec import AudioSpec
from modules.data.clips import Clip
from modules.data.examples import make_example
from tests.original import ORIGINAL_AUDIO

SPEC = ORIGINAL_AUDIO


def example(*, value: float = 0.0, emotion: str = "angry", spec: AudioSpec = SPEC) -> tf.train.Example:
    made = make_example(
        Clip(path="a.wav", corpus="demo", emotion="angry", speaker="demo-01", sex="male", intensity="normal"),
        emotion_id=0,
        features=np.full(SPEC.feature_shape, value, np.float32),
        valid_frames=SPEC.window_frames,
        augmentation="plain",
        duration_sec=3.0,
        window_sec=0.0,
        speech=1.0,
        native_sample_rate_hz=48_000,
        spec=spec,
    )
    made.features.feature["emotion"].bytes_list.value[0] = emotion.encode()
    return made


@pytest.fixture
def check(tmp_path):
    """Function that runs TFX's statistics and ExampleValidator, and then the gate, on a split of examples."""

    def run(examples: list[tf.train.Example]) -> None:
        records = tmp_path / "records.gz"
        with tf.io.TFRecordWriter(str(records), "GZIP") as writer:
            for one in examples:
                writer.write(one.SerializeToString())
        statistics = tfdv.generate_statistics_from_tfrecord(
            str(records), stats_options=tfdv.StatsOptions(schema=schema.load(SPEC))
        )
        inputs = {"statistics": [artifact(standard_artifacts.ExampleStatistics, "statistics")]}
        folder = tmp_path / "statistics" / "Split-train"
        folder.mkdir(parents=True)
        (folder / "FeatureStats.pb").write_bytes(statistics.SerializeToString())
        schema_artifact = standard_artifacts.Schema()
        schema_artifact.uri = str(tmp_path / "schema")
        io_utils.write_pbtxt_file(os.path.join(schema_artifact.uri, "schema.pbtxt"), schema.load(SPEC))
        anomalies = [artifact(standard_artifacts.ExampleAnomalies, "anomalies")]
        validator.Executor().Do({**inputs, "schema": [schema_artifact]}, {"anomalies": anomalies}, {})
        Executor().Do({**inputs, "anomalies": anomalies}, {}, {"audio_spec": SPEC.fingerprint})

    def artifact(kind, name):
        made = kind()
        made.uri = str(tmp_path / name)
        made.split_names = artifact_utils.encode_split_names(["train"])
        return made

    return run


def test_sound_examples_pass(check):
    assert check([example(value=value) for value in (0.0, 1.0, 2.0)]) is None  # without AnomalousData


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (example(value=float("nan")), "features"),
        (example(value=float("inf")), "features"),
        (example(emotion="bored"), "emotion"),
        (example(spec=ORIGINAL_AUDIO.replace(n_fft=1024)), SPEC.fingerprint),
    ],
    ids=["NaN", "infinity", "unknown label", "another audio spec"],
)
def test_an_anomaly_stops_the_run_and_is_named(check, bad, cause):
    with pytest.raises(AnomalousData) as error:
        check([example(), bad])
    assert [line for line in str(error.value).splitlines() if line.startswith("  train: ") and cause in line]
