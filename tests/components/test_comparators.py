"""Comparators and environments of the curated schema in TFDV."""

import numpy as np
import pytest
import tensorflow_data_validation as tfdv

import schema
from components.drift_monitor import comparators
from components.drift_monitor.sources import Clips
from modules.audio.features import feature_names
from modules.drift.sample import Sample
from tests.original import ORIGINAL_AUDIO

LOGMEL = ORIGINAL_AUDIO.replace(feature_family="logmel")
UTTERANCE = ORIGINAL_AUDIO.replace(feature_family="utterance")


def clips(seed: int, *, count: int = 200, louder_db: float = 0.0, slower: float = 1.0, narrow: int = 0) -> Clips:
    """Return mean log-mel levels with RAVDESS's spread; the first ``narrow`` clips come from another source."""
    rng = np.random.default_rng(seed)
    levels_db = np.linspace(-20, -55, 128) + rng.normal(0, 4, (count, 1)) + rng.normal(0, 4, (count, 128))
    rates_hz = np.full(count, 22_050)
    rates_hz[:narrow] = 8_000
    return Clips(
        Sample(values=levels_db + louder_db, names=tuple(feature_names(LOGMEL))),
        {
            "valid_frames": np.full(count, LOGMEL.window_frames),
            "duration_sec": (slower * rng.normal(3.7, 0.34, count)).astype(np.float32),
            "native_sample_rate_hz": rates_hz,
        },
    )


def exceeded(differences: list[comparators.Difference]) -> set[str]:
    return {each.feature for each in differences if each.exceeded}


@pytest.mark.parametrize("seed", range(5))
def test_two_halves_of_the_same_recordings_do_not_fire(seed):
    halves = clips(seed, count=comparators.MIN_CLIPS), clips(seed + 100, count=comparators.MIN_CLIPS)
    differences = comparators.drift(*halves, schema.load(LOGMEL))
    assert {each.feature for each in differences} == {"features", "duration_sec", "native_sample_rate_hz"}
    assert not exceeded(differences)
    assert not exceeded(comparators.skew(*halves, schema.load(LOGMEL)))


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        ({"louder_db": 8.0}, "features"),
        ({"slower": 1.2}, "duration_sec"),
        ({"narrow": 20}, "native_sample_rate_hz"),
    ],
)
def test_a_comparator_reports_the_changed_feature(change, feature):
    assert exceeded(comparators.drift(clips(0), clips(1, **change), schema.load(LOGMEL))) == {feature}


def test_one_recording_from_another_source_does_not_fire():
    one, none = clips(0, narrow=1), clips(1)
    assert not exceeded(comparators.drift(none, one, schema.load(LOGMEL)))
    assert not exceeded(comparators.drift(one, none, schema.load(LOGMEL)))


@pytest.mark.parametrize("short", [0, 1])
def test_requests_as_long_as_the_recordings_do_not_fire(short):
    """A single short one changes all buckets of TFDV's standard histogram, which are equally wide."""
    rng = np.random.default_rng(0)
    training, requests = (
        clips(seed)._replace(numbers={"valid_frames": np.minimum(rng.normal(43, 2, 200).astype(int), 43)})
        for seed in (0, 1)
    )
    requests.numbers["valid_frames"][:short] = 5
    assert not exceeded(comparators.skew(training, requests, schema.load(LOGMEL)))


def test_requests_are_compared_in_their_own_columns():
    requests = clips(1, louder_db=8.0)
    requests = requests._replace(numbers={"valid_frames": np.full(200, 60)})
    differences = comparators.skew(clips(0), requests, schema.load(LOGMEL))
    assert {each.comparator for each in differences} == {"skew"}
    assert exceeded(differences) == {"features", "valid_frames"}


def test_one_histogram_of_the_270_features_is_not_compared():
    described = clips(0)
    values = np.zeros((200, 270))
    described = described._replace(sample=Sample(values=values, names=tuple(feature_names(UTTERANCE))))
    differences = comparators.drift(described, described, schema.load(UTTERANCE))
    assert {each.feature for each in differences} == {"duration_sec", "native_sample_rate_hz"}


def test_small_samples_are_not_compared():
    few = clips(1, count=comparators.MIN_CLIPS - 1, slower=2.0)
    assert comparators.drift(clips(0), few, schema.load(LOGMEL)) == []


@pytest.mark.parametrize("family", ["logmel", "utterance"])
def test_labels_are_required_in_training_alone(family):
    curated = schema.load(ORIGINAL_AUDIO.replace(feature_family=family))
    unlabelled = comparators._statistics(clips(0))
    missing = tfdv.validate_statistics(unlabelled, curated, environment="TRAINING").anomaly_info
    assert {"emotion", "emotion_id", "speaker", "audio_spec"} <= missing.keys()
    served = tfdv.validate_statistics(unlabelled, curated, environment="SERVING").anomaly_info
    assert not {"emotion", "emotion_id", "speaker", "audio_spec"} & served.keys()


def test_impossible_levels_are_serving_anomalies():
    requests = clips(0, louder_db=200.0)._replace(numbers={"valid_frames": np.full(200, 60)})
    (anomaly,) = comparators.serving_anomalies(requests, schema.load(LOGMEL))
    assert anomaly.startswith("features: Unexpectedly high value")
