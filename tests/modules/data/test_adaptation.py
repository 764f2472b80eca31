import numpy as np
import pytest

from modules.data.adaptation import Adaptation, adapt
from modules.data.statistics import Statistics
from tests.original import ORIGINAL_AUDIO

SPECS = [
    ORIGINAL_AUDIO.replace(feature_family="logmel", mel_bands=5, mfcc_coefficients=4, window_sec=0.2),
    ORIGINAL_AUDIO.replace(mel_bands=8, mfcc_coefficients=4),
]


def recordings(spec, *, mean, deviation, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(mean, deviation, size=(60, *spec.feature_shape)).astype(np.float32)
    return features, rng.integers(1, spec.window_frames + 1, 60)


def constants(spec, features, valid_frames):
    statistics = Statistics(spec)
    statistics.add(features, valid_frames, np.full(len(features), "all"))
    return statistics.constants(["all"], "zscore")


@pytest.mark.parametrize("spec", SPECS, ids=["frames", "utterance"])
def test_features_of_another_place_get_mean_and_deviation_of_the_training(spec):
    source = constants(spec, *recordings(spec, mean=0.3, deviation=1.2, seed=0))
    features, valid_frames = recordings(spec, mean=-4, deviation=0.2, seed=1)
    target = constants(spec, features, valid_frames)
    adapted = adapt(features, valid_frames, Adaptation.between(target, source), spec).numpy()
    after = constants(spec, adapted, valid_frames)
    np.testing.assert_allclose(after.centre, source.centre, atol=1e-5)
    np.testing.assert_allclose(after.width, source.width, rtol=1e-5)
    if spec.has_frames:
        invalid = np.arange(spec.window_frames) >= valid_frames[:, np.newaxis]
        np.testing.assert_array_equal(adapted[invalid], features[invalid])


def test_features_of_the_same_place_stay_as_they_are():
    spec = SPECS[0]
    features, valid_frames = recordings(spec, mean=0.0, deviation=1.0, seed=2)
    same = constants(spec, features, valid_frames)
    np.testing.assert_allclose(adapt(features, valid_frames, Adaptation.between(same, same), spec), features, atol=1e-5)
    np.testing.assert_array_equal(adapt(features, valid_frames, Adaptation.identity(spec), spec), features)


def test_a_constant_feature_of_another_place_becomes_the_mean_of_the_training():
    spec = SPECS[1]
    features, valid_frames = recordings(spec, mean=2.0, deviation=1.0, seed=3)
    source = constants(spec, features, valid_frames)
    features[:, 0] = 7.0
    target = constants(spec, features, valid_frames)
    adapted = adapt(features, valid_frames, Adaptation.between(target, source), spec).numpy()
    np.testing.assert_allclose(adapted[:, 0], source.centre[0], rtol=1e-6)
