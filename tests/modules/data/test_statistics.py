"""Constants of the normalisation by sums over speakers, compared with TensorFlow Transform's."""

import numpy as np
import pytest
import tensorflow as tf

from modules.data import preprocessing
from modules.data.statistics import Statistics
from tests.original import ORIGINAL_AUDIO

SPEAKERS = ("toy-01", "toy-02", "toy-03")
UTTERANCE = ORIGINAL_AUDIO.replace(mel_bands=4, mfcc_coefficients=2)
LOGMEL = UTTERANCE.replace(feature_family="logmel", window_sec=0.1)


def values_of(record: bytes) -> tuple[np.ndarray, int]:
    features = tf.train.Example.FromString(record).features.feature
    return np.array(features["features"].float_list.value, np.float32), features["valid_frames"].int64_list.value[0]


@pytest.mark.parametrize("normalisation", ["zscore", "minmax"])
@pytest.mark.parametrize("spec", [UTTERANCE, LOGMEL], ids=lambda spec: spec.feature_family)
def test_features_are_those_of_transform(spec, normalisation, make_raw_example, run_transform, tmp_path):
    records = [
        make_raw_example(spec, n % 7, n, valid_frames=1 + n % spec.window_frames, speaker=SPEAKERS[n % 3])
        for n in range(24)
    ]
    features, frames = (np.array(column) for column in zip(*map(values_of, records), strict=True))
    features, speakers = features.reshape(-1, *spec.feature_shape), np.array([SPEAKERS[n % 3] for n in range(24)])
    chosen = speakers != SPEAKERS[2]
    expected = run_transform(
        spec, {"train": [record for record, use in zip(records, chosen, strict=True) if use]}, tmp_path, normalisation
    )["train"]
    statistics = Statistics(spec)
    for rows in (slice(0, 10), slice(10, 24)):
        statistics.add(features[rows], frames[rows], speakers[rows])
    statistics.save(tmp_path / "statistics.npz")
    constants = Statistics.load(tmp_path / "statistics.npz", spec).constants(SPEAKERS[:2], normalisation)
    normalised = preprocessing.normalise(features[chosen], frames[chosen], constants, spec).numpy()
    np.testing.assert_allclose(normalised, expected, atol=1e-6)


def test_speakers_without_examples_are_refused():
    with pytest.raises(ValueError, match="toy-09"):
        Statistics(LOGMEL).constants(["toy-09"], "zscore")
