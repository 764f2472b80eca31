import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.data.labels import EMOTIONS
from modules.evaluation.errors import suspect_labels, wrong_predictions

ANGRY, DISGUST, FEAR = (EMOTIONS.index(name) for name in ("angry", "disgust", "fear"))


def rows(*given: dict[int, float]) -> np.ndarray:
    """Return probabilities, float ``[clips, emotions]``, with the rest of each row spread over the other emotions."""
    probabilities = np.empty((len(given), len(EMOTIONS)))
    for row, named in zip(probabilities, given, strict=True):
        row[:] = (1 - sum(named.values())) / (len(EMOTIONS) - len(named))
        row[list(named)] = list(named.values())
    return probabilities


LABELS = np.array([ANGRY, ANGRY, FEAR, FEAR, FEAR, FEAR])
PROBABILITIES = rows(
    {ANGRY: 0.9},
    {ANGRY: 0.5, FEAR: 0.1},
    {FEAR: 0.8},
    {ANGRY: 0.75, FEAR: 0.1},  # above the mean of angry in clips of angry, 0.7
    {ANGRY: 0.55, FEAR: 0.4},  # below it
    {DISGUST: 0.9},  # an emotion without a clip has no mean
)


def columns(name: str) -> list[str]:
    return {
        "clip_id": [f"toy/a/{index}.wav" for index in range(len(LABELS))],
        "corpus": ["toy"] * len(LABELS),
        "speaker": [f"toy-{index % 2}" for index in range(len(LABELS))],
    }[name]


def test_a_label_is_suspect_if_another_emotion_is_as_probable_as_in_its_own_clips():
    assert np.flatnonzero(suspect_labels(LABELS, PROBABILITIES)).tolist() == [3]


def test_suspect_labels_come_first_and_then_the_most_confident_errors():
    errors = wrong_predictions(columns, LABELS, PROBABILITIES, classes=EMOTIONS)
    assert [(each.path, each.predicted, each.check_label) for each in errors] == [
        ("a/3.wav", "angry", True),
        ("a/5.wav", "disgust", False),
        ("a/4.wav", "angry", False),
    ]
    assert errors[0].emotion == "fear"
    assert (errors[0].probability, errors[0].label_probability) == pytest.approx((0.75, 0.1))
    assert [each.path for each in wrong_predictions(columns, LABELS, PROBABILITIES, classes=EMOTIONS, most=1)] == [
        "a/3.wav"
    ]


def test_rows_that_are_not_finite_are_left_out():
    broken = PROBABILITIES.copy()
    broken[3, 0] = np.nan
    assert [each.path for each in wrong_predictions(columns, LABELS, broken, classes=EMOTIONS)] == [
        "a/5.wav",
        "a/4.wav",
    ]
    assert not suspect_labels(LABELS, broken).any()


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_the_thresholds_are_the_mean_probabilities_of_the_labels(seed, clips):
    """Compare with the definition, clip by clip (Northcutt et al. 2021, equation 1)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, clips)
    probabilities = random.dirichlet(np.full(4, 0.5), clips)
    expected = []
    for label, row in zip(labels, probabilities, strict=True):
        confident = [
            emotion
            for emotion in set(labels.tolist())
            if row[emotion] >= probabilities[labels == emotion, emotion].mean()
        ]
        expected.append(bool(confident) and max(confident, key=lambda emotion: row[emotion]) != label)
    assert suspect_labels(labels, probabilities).tolist() == expected
