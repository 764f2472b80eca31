"""The permutation test separates guessing from recognition, for any guesses and for few speakers."""

import numpy as np
import pytest

from modules.evaluation import chance
from modules.evaluation.intervals import Predictions

LEVEL, MODELS = 0.05, 300


def predictions(labels: np.ndarray, predicted: np.ndarray, speakers: np.ndarray, classes: int) -> Predictions:
    return Predictions.of(labels, np.eye(classes)[predicted], speakers.tolist())


@pytest.mark.parametrize("classes", [2, 3, 7, 8])
def test_guessing_models_pass_as_rarely_as_the_level_says(classes):
    rng = np.random.default_rng(classes)
    passed = 0
    for _ in range(MODELS):
        speakers = np.repeat(["one", "two"], 20)
        labels = np.tile(np.arange(classes), 40)[:40]
        favourite = rng.dirichlet(np.full(classes, 0.5), 2)  # each speaker has guesses of its own
        guesses = np.concatenate([rng.choice(classes, 20, p=share) for share in favourite])
        passed += chance.p_value(predictions(labels, guesses, speakers, classes), permutations=99) <= LEVEL
    limit = LEVEL * MODELS + 3 * np.sqrt(LEVEL * (1 - LEVEL) * MODELS)  # three standard deviations
    assert passed <= limit


def test_recognition_has_the_least_value():
    labels = np.tile(np.arange(4), 20)
    speakers = np.repeat(["one", "two"], 40)
    assert chance.p_value(predictions(labels, labels, speakers, 4), permutations=99) == 1 / 100


def test_knowing_the_speaker_is_not_recognition():
    labels = np.repeat([0, 1], 20)
    speakers = np.repeat(["calm", "angry"], 20)  # each speaker has one emotion
    assert chance.p_value(predictions(labels, labels, speakers, 2)) is None
    labels[0], guesses = 1, labels.copy()  # one clip of another emotion, which the model does not recognise
    assert chance.p_value(predictions(labels, guesses, speakers, 2)) > 0.9


def test_the_same_seed_gives_the_same_value():
    rng = np.random.default_rng(0)
    guesses = predictions(rng.integers(0, 3, 60), rng.integers(0, 3, 60), np.repeat(["a", "b", "c"], 20), 3)
    values = [chance.p_value(guesses, seed=seed) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
