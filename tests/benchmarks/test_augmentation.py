import numpy as np
import pytest

from benchmarks import augmentation
from modules.evaluation.intervals import Predictions
from pipeline.config import load_config
from tests.benchmarks.test_robustness import cells


def predictions(wrong_of: str) -> dict[str, Predictions]:
    """Return answers by condition, of which every third of one speaker is wrong."""
    labels, speakers = np.tile(np.arange(7), 8), np.repeat(["a", "b", "c", "d"], 14)
    chosen = (speakers == wrong_of) & (np.arange(56) % 3 == 0)
    answers = Predictions.of(labels, np.eye(7)[(labels + chosen) % 7], speakers.tolist())
    return dict.fromkeys(augmentation.CONDITIONS, answers)


def test_tables_have_each_condition_once_and_the_differences_to_the_first_row():
    first, second, *_ = augmentation.ROWS
    lines = augmentation.table({first: predictions("nobody"), second: predictions("a")}).split("\n")
    tables = [lines[:4], lines[5:9]]
    assert [title for table in tables for title in cells(table[0])[1:]] == list(augmentation.CONDITIONS)
    for _, _, right, other in tables:
        assert cells(right)[:2] == [f"`{first}`", "100.0 (100.0 to 100.0)"]
        assert cells(other)[0] == "and `room`"
        assert float(cells(other)[1].split()[0]) == pytest.approx(-100 * 5 / 56, abs=0.1)


def test_the_first_speakers_are_those_of_the_first_folds():
    (answers, *_) = predictions("a").values()
    assert set(augmentation.of_first_speakers(answers, 2).speakers) == {"a", "b"}


def test_the_conditions_are_those_of_the_acceptance_tests_that_are_named():
    assert len(augmentation.CONDITIONS) == 6


@pytest.mark.parametrize("row", augmentation.ROWS)
def test_every_row_is_a_configuration_with_the_plain_clips(row):
    variants = load_config(overrides=augmentation.settings_of("encoder_linear", row)).augmentation.variants
    assert variants == ("plain", *row.split(", "))
