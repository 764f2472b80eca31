import json

import hypothesis
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modules.data.labels import EMOTIONS
from modules.drift import comparison as drift
from modules.drift.settings import DriftSettings

FEATURES = 12
QUICK = DriftSettings(permutations=200)

counts = arrays.arrays(np.int64, 8, elements=st.integers(0, 1000)).filter(np.any)


def speech(*, speakers: int, seed: int, clips_each: int = 21, first: int = 0, spread: float = 1.0) -> drift.Sample:
    """Clips whose features depend on the speaker as much as on the clip, and on the emotion."""
    rng = np.random.default_rng(seed)
    voices = np.repeat(rng.normal(scale=spread, size=(speakers, FEATURES)), clips_each, axis=0)
    emotions = np.resize(np.arange(len(EMOTIONS)), len(voices))
    tone = np.stack([emotions == number % len(EMOTIONS) for number in range(FEATURES)], axis=1)
    return drift.Sample(
        values=voices + 2 * tone + rng.normal(size=voices.shape),
        names=tuple(f"feature_{number}" for number in range(FEATURES)),
        speakers=tuple(f"toy-{first + number:02d}" for number in range(speakers) for _ in range(clips_each)),
        emotions=tuple(EMOTIONS[emotion] for emotion in emotions),
    )


def changed(sample: drift.Sample, **fields: object) -> drift.Sample:
    return drift.Sample(**{**vars(sample), **fields})


def halves(sample: drift.Sample, seed: int) -> tuple[drift.Sample, drift.Sample]:
    rows = np.random.default_rng(seed).permutation(sample.clips)
    return sample.take(rows[: sample.clips // 2]), sample.take(rows[sample.clips // 2 :])


def alarms(pairs: list[tuple[drift.Sample, drift.Sample]]) -> int:
    return sum(drift.compare(*pair, QUICK).drifted for pair in pairs)


# Of 60 comparisons that alarm with a probability of 0.04 each, more than 8 do once in 1 000 times.
TRIALS, MOST_FALSE_ALARMS = 60, 8


def test_other_speakers_of_the_same_population_do_not_alarm():
    pairs = [(speech(speakers=8, seed=seed), speech(speakers=8, seed=1000 + seed, first=8)) for seed in range(TRIALS)]
    assert alarms(pairs) <= MOST_FALSE_ALARMS


def test_clips_of_one_speaker_are_not_taken_for_independent():
    """What the test above would show of thresholds that ignore who speaks."""
    pairs = [(speech(speakers=8, seed=seed), speech(speakers=8, seed=1000 + seed, first=8)) for seed in range(10)]
    alone = [tuple(changed(one, speakers=tuple(map(str, range(one.clips)))) for one in pair) for pair in pairs]
    renamed = [(one, changed(two, speakers=tuple(f"x{name}" for name in two.speakers))) for one, two in alone]
    assert alarms(renamed) == 10


def test_halves_of_the_clips_do_not_alarm():
    assert alarms([halves(speech(speakers=8, seed=seed), seed) for seed in range(TRIALS)]) <= MOST_FALSE_ALARMS


def test_a_batch_of_some_known_and_some_new_speakers_does_not_alarm():
    pairs = []
    for seed in range(TRIALS):
        old, new = halves(speech(speakers=12, seed=seed), seed)
        pairs.append(
            (
                old.take([row for row, name in enumerate(old.speakers) if name < "toy-08"]),
                new.take([row for row, name in enumerate(new.speakers) if name >= "toy-04"]),
            )
        )
    assert alarms(pairs) <= MOST_FALSE_ALARMS


def test_one_drifted_feature_is_found_and_named():
    reference, current = halves(speech(speakers=8, seed=0), 0)
    values = current.values.copy()
    values[:, 5] += 1.5
    report = drift.compare(reference, changed(current, values=values), QUICK)
    assert report.drifted
    assert [feature.name for feature in report.drifted_features] == ["feature_5"]
    assert report.features[0].name == "feature_5"
    assert report.features[0].current_median > report.features[0].reference_median + 1
    assert "feature_5" in report.reasons[0]
    assert report.p_value <= QUICK.false_alarm_rate


def test_a_small_drift_of_all_features_is_found():
    reference, current = halves(speech(speakers=8, seed=0), 0)
    report = drift.compare(reference, changed(current, values=current.values + 0.45), QUICK)
    assert report.mean_ks.drifted


def test_other_speakers_from_elsewhere_alarm():
    reference, current = speech(speakers=8, seed=0), speech(speakers=8, seed=1, first=8)
    assert drift.compare(reference, changed(current, values=current.values + 5.0), QUICK).drifted


def at_level(sample: drift.Sample, seed: int, *, louder_db: float = 0.0) -> drift.Sample:
    """With levels as RAVDESS has them: 3.6 dB between speakers, 9 dB between clips."""
    rng = np.random.default_rng(seed)
    _, speaker = np.unique(sample.speakers, return_inverse=True)
    voices_db = rng.normal(-30, 3.6, speaker.max() + 1)[speaker]
    return changed(sample, levels_db=voices_db + rng.normal(0, 9, sample.clips) + louder_db)


def pairs_at_levels(trials: int, **change: float) -> list[tuple[drift.Sample, drift.Sample]]:
    """Twelve speakers and twelve others, whose features say nothing of the level."""
    return [
        (
            at_level(speech(speakers=12, seed=seed), seed),
            at_level(speech(speakers=12, seed=1000 + seed, first=12), 1000 + seed, **change),
        )
        for seed in range(trials)
    ]


def test_other_speakers_at_levels_of_their_own_do_not_alarm():
    assert alarms(pairs_at_levels(30)) <= 5  # of 30 with a probability of 0.04, more do once in 1 000 times


def test_a_gain_is_found_between_other_speakers():
    reports = [drift.compare(*pair, QUICK) for pair in pairs_at_levels(10, louder_db=8.0)]
    assert sum(report.level.drifted for report in reports) >= 8
    found = next(report for report in reports if report.level.drifted)
    assert "dB louder on average" in found.reasons[0]
    assert not found.labels_suspect


def test_the_level_is_that_of_the_speakers_not_of_the_clips():
    sample = speech(speakers=8, seed=0)
    levels_db = np.where(np.array(sample.speakers) == "toy-00", -20.0, -40.0)
    rows = np.flatnonzero((np.array(sample.speakers) != "toy-00") | (np.arange(sample.clips) % 3 == 0))
    sample = changed(sample, levels_db=levels_db)
    level = drift.compare(sample, sample.take(rows), QUICK).level
    assert level.reference_db == pytest.approx(-37.5, abs=1e-3)
    assert level.current_db == pytest.approx(-37.5, abs=1e-3)
    assert not level.drifted
    assert drift.compare(sample, changed(sample, levels_db=None), QUICK).level is None
    assert drift.compare(sample, changed(sample, speakers=None), QUICK).level is None


def test_other_frequencies_of_the_labels_alarm():
    reference, current = halves(speech(speakers=8, seed=0, clips_each=42), 0)
    angry_for_happy = tuple("angry" if emotion == "happy" else emotion for emotion in current.emotions)
    report = drift.compare(reference, changed(current, emotions=angry_for_happy), QUICK)
    assert report.labels.drifted
    assert report.labels.current["happy"] == 0
    assert not report.drifted_features


def test_swapped_labels_alarm_though_labels_and_features_are_as_frequent():
    reference, current = halves(speech(speakers=8, seed=0, clips_each=42), 0)
    swap = {"angry": "sad", "sad": "angry"}
    report = drift.compare(
        reference, changed(current, emotions=tuple(swap.get(name, name) for name in current.emotions)), QUICK
    )
    assert {emotion.emotion for emotion in report.emotions if emotion.drifted} == {"angry", "sad"}
    assert not report.drifted_features
    assert not report.labels.drifted


@pytest.mark.parametrize(("speakers", "clips_each"), [(8, 21), (168, 1), (400, 1)], ids=["few", "many", "crowd"])
def test_a_log_without_speakers_does_not_alarm_until_it_drifts(speakers, clips_each):
    logs = [
        changed(speech(speakers=speakers, seed=1000 + seed, clips_each=clips_each), speakers=None, emotions=None)
        for seed in range(TRIALS)
    ]
    references = [speech(speakers=8, seed=seed) for seed in range(TRIALS)]
    assert alarms(list(zip(references, logs, strict=True))) <= MOST_FALSE_ALARMS
    assert drift.compare(references[0], changed(logs[0], values=logs[0].values + 5.0), QUICK).drifted


def test_equal_seeds_give_equal_reports():
    reference, current = halves(speech(speakers=8, seed=0), 0)
    first, second = (drift.compare(reference, current, DriftSettings(max_clips=60, permutations=75)) for _ in range(2))
    assert first == second
    assert first.reference_clips == 60


def test_the_report_is_json():
    content = drift.compare(*halves(speech(speakers=8, seed=0), 0), QUICK).to_dict()
    assert json.loads(json.dumps(content, allow_nan=False))["features"][0]["ks"].keys() == {"value", "threshold"}


def test_a_constant_feature_alarms_only_when_it_changes():
    reference, current = halves(speech(speakers=8, seed=0), 0)
    reference, current = (
        changed(one, values=np.where(np.arange(FEATURES) == 3, 0.0, one.values)) for one in (reference, current)
    )
    assert not drift.compare(reference, current, QUICK).drifted
    moved = changed(current, values=current.values + (np.arange(FEATURES) == 3))
    assert [feature.name for feature in drift.compare(reference, moved, QUICK).drifted_features] == ["feature_3"]


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(30, 60), st.integers(30, 60), st.booleans())
@hypothesis.settings(max_examples=25, deadline=None)
def test_ks_is_scipys_with_ties_too(seed, reference_clips, current_clips, tied):
    rng = np.random.default_rng(seed)
    samples = []
    for clips in (reference_clips, current_clips):
        values = rng.normal(size=(clips, 3))
        samples.append(
            drift.Sample(
                values=np.round(values) if tied else values,
                names=("a", "b", "c"),
                speakers=tuple(f"s{row % 5}" for row in range(clips)),
            )
        )
    report = drift.compare(*samples, DriftSettings(permutations=75))
    expected = scipy.stats.ks_2samp(samples[0].values, samples[1].values, method="asymp").statistic
    seen = {feature.name: feature.ks.value for feature in report.features}
    np.testing.assert_allclose([seen[name] for name in "abc"], expected, atol=1e-6)


def test_psi_of_a_worked_example():
    # Proportions after smoothing: 0.5, 0.5 and 0.25, 0.75.
    found = drift.population_stability(np.array([9.5, 9.5]), np.array([4.5, 14.5]))
    assert found == pytest.approx(0.25 * np.log(2.0) + (-0.25) * np.log(2 / 3))


@hypothesis.given(counts, counts)
def test_psi_is_symmetric_never_negative_and_of_proportions(first, second):
    psi = drift.population_stability(first, second)
    assert psi >= 0
    assert psi == pytest.approx(drift.population_stability(second, first))
    many = drift.population_stability(first * 10**9, first * 3 * 10**9)
    assert many == pytest.approx(0, abs=1e-6), "three times as many clips in equal proportions are no drift"


@hypothesis.given(counts, counts)
def test_jensen_shannon_is_a_divergence_between_0_and_1(first, second):
    found = drift.jensen_shannon(first, second)
    assert -1e-12 <= found <= 1 + 1e-12
    assert found == pytest.approx(drift.jensen_shannon(second, first), abs=1e-9)
    p, q = first / first.sum(), second / second.sum()
    kl = [scipy.stats.entropy(one, (p + q) / 2, base=2) for one in (p, q)]
    assert found == pytest.approx(np.mean(kl), abs=1e-9)


@hypothesis.given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.integers(1, 60), st.integers(0, 99))
def test_a_permutation_gives_no_clip_twice_and_keeps_each_place(sizes, reference_clips, seed):
    speakers = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    reference_clips = min(reference_clips, len(speakers) - 1)
    first, second = drift._permute(speakers, reference_clips, 5, np.random.default_rng(seed))
    assert (first + second).max() <= 1
    assert first.sum(axis=1).max() <= max(sizes) * len(sizes)
    if len(set(sizes)) == 1:  # then everybody can fill any place, and the samples are as large as they were
        assert set(first.sum(axis=1)) == {reference_clips}
        assert set(second.sum(axis=1)) == {len(speakers) - reference_clips}


def test_speakers_of_one_sample_are_permuted_whole():
    speakers = np.repeat(np.arange(8), 5)
    first, _ = drift._permute(speakers, 20, 50, np.random.default_rng(0))
    of_speaker = first.reshape(50, 8, 5)
    assert np.isin(of_speaker.sum(axis=2), (0, 5)).all()
    assert len({tuple(row) for row in of_speaker[:, :, 0]}) > 10


def test_band_means_ignore_the_padding():
    spectrograms = np.full((2, 4, 3), -100.0)
    spectrograms[0, :2] = [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]
    spectrograms[1] = 7.0
    np.testing.assert_allclose(drift.band_means(spectrograms, np.array([2, 4])), [[2, 3, 4], [7, 7, 7]])


@pytest.mark.parametrize(
    ("reference", "current", "complaint"),
    [
        (speech(speakers=8, seed=0), speech(speakers=8, seed=0).take(range(10)), "current sample has 10 clips"),
        (speech(speakers=2, seed=0), speech(speakers=2, seed=1, first=2), "2 speakers are compared with 2 others"),
        (speech(speakers=8, seed=0), changed(speech(speakers=8, seed=1), names=("a",) * FEATURES), "one audio spec"),
        (
            changed(speech(speakers=8, seed=0), values=np.full((168, FEATURES), np.nan)),
            speech(speakers=8, seed=0),
            "not numbers in feature_0",
        ),
    ],
    ids=["few clips", "few speakers", "other features", "not numbers"],
)
def test_what_cannot_be_compared_is_said(reference, current, complaint):
    with pytest.raises(drift.NotComparable, match=complaint):
        drift.compare(reference, current, QUICK)
