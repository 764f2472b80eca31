import numpy as np
import pytest
import tensorflow as tf

from modules.data import preprocessing
from tests.original import ORIGINAL_AUDIO

UTTERANCE = ORIGINAL_AUDIO.replace(mel_bands=4, mfcc_coefficients=2)  # 20 features
LOGMEL = ORIGINAL_AUDIO.replace(mel_bands=4, mfcc_coefficients=2, feature_family="logmel", window_sec=0.1)  # 5 frames


def features_of(records: list[bytes]) -> np.ndarray:
    return np.array([tf.train.Example.FromString(it).features.feature["features"].float_list.value for it in records])


def with_constant(record: bytes, position: int, value: float) -> bytes:
    example = tf.train.Example.FromString(record)
    example.features.feature["features"].float_list.value[position] = value
    return example.SerializeToString()


@pytest.fixture(scope="module")
def utterance_records(make_raw_example):
    """The third feature is the same in every clip of train."""
    return [with_constant(make_raw_example(UTTERANCE, number % 7, number), 2, 0.1) for number in range(20)]


def test_zscore_is_elementwise_over_train(utterance_records, run_transform, tmp_path):
    unseen = [with_constant(utterance_records[0], 2, 7.0)]
    out = run_transform(UTTERANCE, {"train": utterance_records, "eval": unseen}, tmp_path)
    raw = features_of(utterance_records)
    expected = (raw - raw.mean(axis=0)) / np.where(np.arange(20) == 2, np.inf, raw.std(axis=0))
    np.testing.assert_allclose(out["train"], expected, atol=1e-5)
    assert out["eval"][0, 2] == 0, "a constant feature of train stays 0"


def test_batches_do_not_change_the_result(utterance_records, run_transform, tmp_path):
    whole = run_transform(UTTERANCE, {"train": utterance_records}, tmp_path / "whole")
    parts = run_transform(UTTERANCE, {"train": utterance_records[::-1]}, tmp_path / "parts", batch_size=3)
    np.testing.assert_array_equal(whole["train"], parts["train"][::-1])


def test_minmax_maps_train_onto_zero_to_one(utterance_records, run_transform, tmp_path):
    out = run_transform(UTTERANCE, {"train": utterance_records}, tmp_path, normalisation="minmax")
    features = np.delete(out["train"], 2, axis=1)
    np.testing.assert_allclose([features.min(axis=0), features.max(axis=0)], [np.zeros(19), np.ones(19)], atol=1e-6)
    assert (out["train"][:, 2] == 0).all()


def test_without_normalisation_features_stay_as_they_are(make_raw_example, run_transform, tmp_path):
    records = [make_raw_example(LOGMEL, 0, number, 1 + number) for number in range(5)]
    out = run_transform(LOGMEL, {"train": records}, tmp_path, normalisation="none")["train"]
    np.testing.assert_array_equal(out.reshape(5, -1), features_of(records))


@pytest.mark.parametrize("normalisation", ["zscore", "minmax"])
def test_logmel_is_normalised_over_valid_frames(make_raw_example, run_transform, tmp_path, normalisation):
    assert LOGMEL.feature_shape == (5, 4)
    valid_frames = [1 + number % 5 for number in range(15)]
    records = [make_raw_example(LOGMEL, 0, number, frames) for number, frames in enumerate(valid_frames)]
    got = run_transform(LOGMEL, {"train": records}, tmp_path, normalisation=normalisation)["train"]
    raw = features_of(records).reshape(15, 5, 4)
    mask = np.arange(5) < np.array(valid_frames)[:, np.newaxis]
    sound = raw[mask]
    centre, width = (
        (sound.mean(0), sound.std(0)) if normalisation == "zscore" else (sound.min(0), np.ptp(sound, axis=0))
    )
    np.testing.assert_allclose(got, np.where(mask[..., np.newaxis], (raw - centre) / width, 0), atol=1e-5)


def test_another_shape_is_refused():
    inputs = {"features": tf.zeros([2, 21])}
    with pytest.raises(ValueError, match=r"\(21,\).*\(20,\)"):
        preprocessing.preprocessing_fn(inputs, preprocessing.transform_config(UTTERANCE))
