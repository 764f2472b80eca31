from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import prediction_drift
from modules.drift.statistics import jensen_shannon
from serving.rollout.settings import WatchSettings

CLIPS = 240


def answers(*, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """Return predictions for 240 clips, mostly clear; ``noise`` is the difference to another training."""
    rng = np.random.default_rng(0)
    logits = 4 * np.eye(7)[rng.integers(7, size=CLIPS)] + rng.normal(size=(CLIPS, 7))
    exponential = np.exp(logits + noise * np.random.default_rng(seed).normal(size=(CLIPS, 7)))
    return exponential / exponential.sum(axis=1, keepdims=True)


def result(rows: np.ndarray, clips: int = CLIPS) -> SimpleNamespace:
    return SimpleNamespace(clip_ids=tuple(map(str, range(clips))), probabilities=rows.tolist())


def outcomes(pair: prediction_drift.Pair, recordings: int) -> set[str]:
    return {watch.outcome for watch in prediction_drift.watches([pair], recordings, count=5)}


def test_a_retrained_model_is_promoted():
    assert outcomes((answers(), answers(seed=1, noise=0.3)), 20) == {"promote"}


@pytest.mark.parametrize("fault", sorted(set(prediction_drift.FAULTS) - {"two emotions swapped"}))
def test_a_fault_is_rolled_back(fault):
    retrained = answers(seed=1, noise=0.3)
    spoilt = prediction_drift.FAULTS[fault](retrained, np.random.default_rng(0))
    assert spoilt.shape == retrained.shape
    np.testing.assert_allclose(spoilt.sum(axis=1), 1)
    assert outcomes((answers(), spoilt), 200) == {"roll back"}


def test_swapped_emotions_are_never_promoted():
    spoilt = prediction_drift.swapped(answers(), np.random.default_rng(0))
    assert (np.sort(spoilt, axis=1) == np.sort(answers(), axis=1)).all()
    assert (spoilt != answers()).any(axis=0).sum() == 2
    assert "promote" not in outcomes((answers(), spoilt), 200)


def test_a_watch_measures_the_same_drift_as_the_command():
    first, second = answers(), answers(seed=1, noise=1.0)
    (watch,) = prediction_drift.watches([(first, second)], CLIPS, count=1)
    assert watch.probabilities_drift == pytest.approx(jensen_shannon(first, second).mean())


def test_cases_pair_seeds_and_compare_rows_with_the_recipe():
    first, second, third, other = (result(answers(seed=seed, noise=1)) for seed in range(4))
    results = {"recipe": [first], "original_cnn": [other], "recipe, seed 1": [second], "recipe, seed 2": [third]}
    cases = prediction_drift.sound_cases(results)
    assert {name: len(pairs) for name, pairs in cases.items()} == {"another seed": 3, "`original_cnn`": 1}
    np.testing.assert_array_equal(cases["`original_cnn`"][0][1], np.array(other.probabilities))
    with pytest.raises(ValueError, match="recordings"):
        prediction_drift.pairs_of([first], [result(answers()[:10], clips=10)])


def test_table_has_a_line_for_each_case():
    retrained = [(answers(), answers(seed=1, noise=0.3))]
    cases = {"another seed": retrained} | prediction_drift.faulty_cases(retrained)
    lines = prediction_drift.to_markdown(cases, count=2).splitlines()
    assert len(lines) == 2 * (2 + 1 + len(prediction_drift.FAULTS) + 1) + 1
    for line in (lines[2], lines[2 + len(lines) // 2]):
        cells = line.strip("| ").split(" | ")
        assert (cells[0], cells[3:]) == ("another seed", ["100", "0"])
    assert f"a bound of {WatchSettings().max_prediction_drift:g}" in lines[-1]
