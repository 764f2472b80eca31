import json
import re

import hypothesis
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modules.data.labels import EMOTIONS
from modules.drift.comparison import NotComparable, compare
from modules.drift.permutation import permute
from modules.drift.sample import Sample, band_means
from modules.drift.settings import DriftSettings
from modules.drift.statistics import jensen_shannon

FEATURES = 12
QUICK = DriftSettings(permutations=200)

counts = arrays.arrays(np.int64, 8, elements=st.integers(0, 1000)).filter(np.any)


def speech(*, speakers: int, seed: int, clips_each: int = 21, first: int = 0, spread: float = 1.0) -> Sample:
    """Clips whose features depend on the speaker as much as on the clip, and on the emotion."""
    rng = np.random.default_rng(seed)
    voices = np.repeat(rng.normal(scale=spread, size=(speakers, FEATURES)), clips_each, axis=0)
    emotions = np.resize(np.arange(len(EMOTIONS)), len(voices))
    tone = np.stack([emotions == number % len(EMOTIONS) for number in range(FEATURES)], axis=1)
    return Sample(
        values=voices + 2 * tone + rng.normal(size=voices.shape),
        names=tuple(f"feature_{number}" for number in range(FEATURES)),
        speakers=tuple(f"toy-{first + number:02d}" for number in range(speakers) for _ in range(clips_each)),
        emotions=tuple(EMOTIONS[emotion] for emotion in emotions),
    )


def changed(sample: Sample, **fields: object) -> Sample:
    return Sample(**{**vars(sample), **fields})


def halves(sample: Sample, seed: int) -> tuple[Sample, Sample]:
    rows = np.random.default_rng(seed).permutation(sample.clips)
    return sample.take(rows[: sample.clips // 2]), sample.take(rows[sample.clips // 2 :])


def alarms(pairs: list[tuple[Sample, Sample]]) -> int:
    return sum(compare(*pair, QUICK).drifted for pair in pairs)


# Of 60 comparisons that alarm with a probability of 0.04 each, more than 8 do once in 1 000 times.
TRIALS, MOST_FALSE_ALARMS = 60, 8


def test_other_speakers_do_not_alarm():
    pairs = [(speech(speakers=8, seed=seed), speech(speakers=8, seed=1000 + seed, first=8)) for seed in range(TRIALS)]
    assert alarms(pairs) <= MOST_FALSE_ALARMS


def test_treating_clips_as_independent_alarms():
    """Negative control of the test above: thresholds that ignore speakers."""
    pairs = [(speech(speakers=8, seed=seed), speech(speakers=8, seed=1000 + seed, first=8)) for seed in range(10)]
    alone = [tuple(changed(one, speakers=tuple(map(str, range(one.clips)))) for one in pair) for pair in pairs]
    renamed = [(one, changed(two, speakers=tuple(f"x{name}" for name in two.speakers))) for one, two in alone]
    assert alarms(renamed) == 10


def test_other_clips_do_not_alarm():
    assert alarms([halves(speech(speakers=8, seed=seed), seed) for seed in range(TRIALS)]) <= MOST_FALSE_ALARMS


def test_partly_shared_speakers_do_not_alarm():
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


def test_one_drifted_feature_is_named():
    reference, current = halves(speech(speakers=8, seed=0), 0)
    values = current.values.copy()
    values[:, 5] += 1.5
    report = compare(reference, changed(current, values=values), QUICK)
    assert report.drifted
    assert [feature.name for feature in report.drifted_features] == ["feature_5"]
    assert report.features[0].name == "feature_5"
    assert report.features[0].current_median > report.features[0].reference_median + 1
    assert "feature_5" in report.reasons[0]
    assert report.p_value <= QUICK.false_alarm_rate


def test_a_small_drift_of_all_features_is_found():
    reference, current = halves(speech(speakers=8, seed=0), 0)
    report = compare(reference, changed(current, values=current.values + 0.45), QUICK)
    assert report.mean_ks.drifted


def test_drift_between_other_speakers_alarms():
    reference, current = speech(speakers=8, seed=0), speech(speakers=8, seed=1, first=8)
    assert compare(reference, changed(current, values=current.values + 5.0), QUICK).drifted


def at_level(sample: Sample, seed: int, *, louder_db: float = 0.0) -> Sample:
    """Add levels with the deviations of RAVDESS: 3.6 dB between speakers, 9 dB between clips."""
    rng = np.random.default_rng(seed)
    _, speaker = np.unique(sample.speakers, return_inverse=True)
    voices_db = rng.normal(-30, 3.6, speaker.max() + 1)[speaker]
    return changed(sample, levels=voices_db + rng.normal(0, 9, sample.clips) + louder_db)


def pairs_at_levels(trials: int, **change: float) -> list[tuple[Sample, Sample]]:
    """Twelve speakers and twelve others, whose features do not depend on the level."""
    return [
        (
            at_level(speech(speakers=12, seed=seed), seed),
            at_level(speech(speakers=12, seed=1000 + seed, first=12), 1000 + seed, **change),
        )
        for seed in range(trials)
    ]


def test_other_levels_of_speakers_do_not_alarm():
    assert alarms(pairs_at_levels(30)) <= 5  # of 30 with a probability of 0.04; more than 5 do once in 1 000 times


def test_a_gain_is_found_between_other_speakers():
    reports = [compare(*pair, QUICK) for pair in pairs_at_levels(10, louder_db=8.0)]
    assert sum(report.level.drifted for report in reports) >= 8
    drifted = next(report for report in reports if report.level.drifted)
    assert drifted.level.current > drifted.level.reference
    assert any(re.match(r"The speakers are \d+\.\d dB louder", reason) for reason in drifted.reasons)
    assert not drifted.labels_suspect


def test_the_level_of_an_encoder_has_no_unit():
    pairs = [[changed(each, level_unit="") for each in pair] for pair in pairs_at_levels(10, louder_db=8.0)]
    drifted = next(report for report in (compare(*pair, QUICK) for pair in pairs) if report.level.drifted)
    assert any(reason.startswith("The mean of all features is ") for reason in drifted.reasons)
    assert "dB" not in " ".join(drifted.reasons)


def test_the_level_is_the_mean_over_speakers():
    sample = speech(speakers=8, seed=0)
    levels = np.where(np.array(sample.speakers) == "toy-00", -20.0, -40.0)
    rows = np.flatnonzero((np.array(sample.speakers) != "toy-00") | (np.arange(sample.clips) % 3 == 0))
    sample = changed(sample, levels=levels)
    level = compare(sample, sample.take(rows), QUICK).level
    assert level.reference == pytest.approx(-37.5, abs=1e-3)
    assert level.current == pytest.approx(-37.5, abs=1e-3)
    assert not level.drifted
    assert compare(sample, changed(sample, levels=None), QUICK).level is None
    assert compare(sample, changed(sample, speakers=None), QUICK).level is None


def test_changed_label_frequencies_alarm():
    reference, current = halves(speech(speakers=8, seed=0, clips_each=42), 0)
    angry_for_happy = tuple("angry" if emotion == "happy" else emotion for emotion in current.emotions)
    report = compare(reference, changed(current, emotions=angry_for_happy), QUICK)
    assert report.labels.drifted
    assert report.labels.current["happy"] == 0
    assert not report.drifted_features


def test_swapped_labels_alarm():
    reference, current = halves(speech(speakers=8, seed=0, clips_each=42), 0)
    swap = {"angry": "sad", "sad": "angry"}
    report = compare(
        reference, changed(current, emotions=tuple(swap.get(name, name) for name in current.emotions)), QUICK
    )
    assert {emotion.emotion for emotion in report.emotions if emotion.drifted} == {"angry", "sad"}
    assert not report.drifted_features
    assert not report.labels.drifted


@pytest.mark.parametrize(("speakers", "clips_each"), [(8, 21), (168, 1), (400, 1)], ids=["few", "many", "crowd"])
def test_a_log_without_speakers_alarms_only_on_drift(speakers, clips_each):
    logs = [
        changed(speech(speakers=speakers, seed=1000 + seed, clips_each=clips_each), speakers=None, emotions=None)
        for seed in range(TRIALS)
    ]
    references = [speech(speakers=8, seed=seed) for seed in range(TRIALS)]
    assert alarms(list(zip(references, logs, strict=True))) <= MOST_FALSE_ALARMS
    assert compare(references[0], changed(logs[0], values=logs[0].values + 5.0), QUICK).drifted


def test_equal_seeds_give_equal_reports():
    reference, current = halves(speech(speakers=8, seed=0), 0)
    first, second = (compare(reference, current, DriftSettings(max_clips=60, permutations=75)) for _ in range(2))
    assert first == second
    assert first.reference_clips == 60


def test_the_report_is_json():
    content = compare(*halves(speech(speakers=8, seed=0), 0), QUICK).to_dict()
    assert json.loads(json.dumps(content, allow_nan=False))["features"][0]["ks"].keys() == {"value", "threshold"}


def test_a_constant_feature_alarms_only_when_it_changes():
    reference, current = halves(speech(speakers=8, seed=0), 0)
    reference, current = (
        changed(one, values=np.where(np.arange(FEATURES) == 3, 0.0, one.values)) for one in (reference, current)
    )
    assert not compare(reference, current, QUICK).drifted
    moved = changed(current, values=current.values + (np.arange(FEATURES) == 3))
    assert [feature.name for feature in compare(reference, moved, QUICK).drifted_features] == ["feature_3"]


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(30, 60), st.integers(30, 60), st.booleans())
@hypothesis.settings(max_examples=25)
def test_ks_equals_scipys(seed, reference_clips, current_clips, tied):
    rng = np.random.default_rng(seed)
    samples = []
    for clips in (reference_clips, current_clips):
        values = rng.normal(size=(clips, 3))
        samples.append(
            Sample(
                values=np.round(values) if tied else values,
                names=("a", "b", "c"),
                speakers=tuple(f"s{row % 5}" for row in range(clips)),
            )
        )
    report = compare(*samples, DriftSettings(permutations=75))
    expected = scipy.stats.ks_2samp(samples[0].values, samples[1].values, method="asymp").statistic
    seen = {feature.name: feature.ks.value for feature in report.features}
    np.testing.assert_allclose([seen[name] for name in "abc"], expected, atol=1e-6)


@hypothesis.given(counts, counts)
def test_jensen_shannon_equals_the_definition(first, second):
    divergence = jensen_shannon(first, second)
    assert -1e-12 <= divergence <= 1 + 1e-12
    assert divergence == pytest.approx(jensen_shannon(second, first), abs=1e-9)
    p, q = first / first.sum(), second / second.sum()
    kl = [scipy.stats.entropy(one, (p + q) / 2, base=2) for one in (p, q)]
    assert divergence == pytest.approx(np.mean(kl), abs=1e-9)


@hypothesis.given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.integers(1, 60), st.integers(0, 99))
def test_a_permutation_uses_no_clip_twice(sizes, reference_clips, seed):
    speakers = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    reference_clips = min(reference_clips, len(speakers) - 1)
    first, second = permute(speakers, reference_clips, 5, np.random.default_rng(seed))
    assert (first + second).max() <= 1
    assert first.sum(axis=1).max() <= max(sizes) * len(sizes)
    if len(set(sizes)) == 1:  # then the samples keep their sizes
        assert set(first.sum(axis=1)) == {reference_clips}
        assert set(second.sum(axis=1)) == {len(speakers) - reference_clips}


def test_speakers_are_permuted_whole():
    speakers = np.repeat(np.arange(8), 5)
    first, _ = permute(speakers, 20, 50, np.random.default_rng(0))
    of_speaker = first.reshape(50, 8, 5)
    assert np.isin(of_speaker.sum(axis=2), (0, 5)).all()
    assert len({tuple(row) for row in of_speaker[:, :, 0]}) > 10


def test_band_means_ignore_padding():
    spectrograms = np.full((2, 4, 3), -100.0)
    spectrograms[0, :2] = [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]
    spectrograms[1] = 7.0
    np.testing.assert_allclose(band_means(spectrograms, np.array([2, 4])), [[2, 3, 4], [7, 7, 7]])


@pytest.mark.parametrize(
    ("reference", "current", "named"),
    [
        (speech(speakers=8, seed=0), speech(speakers=8, seed=0).take(range(10)), "10 clips"),
        (speech(speakers=2, seed=0), speech(speakers=2, seed=1, first=2), "2 speakers"),
        (
            speech(speakers=8, seed=0),
            changed(speech(speakers=8, seed=1), names=("a",) * FEATURES),
            "12 features",
        ),
        (
            changed(speech(speakers=8, seed=0), values=np.full((168, FEATURES), np.nan)),
            speech(speakers=8, seed=0),
            "feature_0",
        ),
    ],
    ids=["few clips", "few speakers", "other features", "non-finite"],
)
def test_incomparable_samples_are_refused(reference, current, named):
    with pytest.raises(NotComparable, match=named):
        compare(reference, current, QUICK)
