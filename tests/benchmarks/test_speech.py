import numpy as np
import pytest

from benchmarks import speech
from modules.audio.speech import MEASURES


@pytest.fixture(scope="module")
def items() -> list[speech.Item]:
    silence = np.zeros(1, np.float32)
    return [
        speech.Item("corpus" if voice else "hum", f"group {number % 10}", voice, False, silence)
        for voice in (True, False)
        for number in range(50)
    ]


@pytest.fixture(scope="module")
def measures(items) -> np.ndarray:
    """Speech has middle values of the first measure; other sounds have low or high ones."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(items), 3))
    rows[:, 0] = [0.3 * rng.normal() if item.is_speech else rng.choice([-3, 3]) for item in items]
    rows[:, 1:] *= 0.1
    return rows


def test_a_middle_value_is_learnt_across_groups(items, measures):
    found = speech.cross_validated(items, measures, np.ones(len(items), bool))
    assert np.mean((found > 0.5) == [item.is_speech for item in items]) > 0.85


def test_a_sound_that_cannot_be_speech_has_the_probability_zero(items, measures):
    possible = np.arange(len(items)) != 0
    assert speech.cross_validated(items, measures, possible)[0] == 0


def test_tables_count_refused_speech_and_answered_sounds(items):
    found = np.array([0.2] * 5 + [0.9] * 45 + [0.9] * 10 + [0.1] * 40)
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in speech.table_of(items, found, 0.5).split("\n")
    ]
    assert lines[2:4] == [["corpus", "speech", "50", "10.0"], ["hum", "other", "50", "20.0"]]


def test_written_weights_give_the_same_probabilities():
    rng = np.random.default_rng(0)
    names = MEASURES[:3]
    fitted = speech.Weights(*rng.uniform(0.5, 2, (4, 3)), bias=0.25)
    written: dict[str, object] = {}
    exec(speech.weights_text(fitted, names), written)
    columns = np.array([written["WEIGHTS"][name] for name in names]).T
    again = speech.Weights(*columns, bias=written["BIAS"])
    rows = rng.normal(size=(20, 3))
    np.testing.assert_allclose(again.probabilities(rows), fitted.probabilities(rows), atol=1e-3)


def test_steady_sounds_are_finite_and_never_speech():
    made = list(speech.steady_items())
    assert {item.kind for item in made} >= {"white noise", "hum", "dither", "digital silence"}
    assert not any(item.is_speech for item in made)
    assert all(np.isfinite(item.sound).all() for item in made)
