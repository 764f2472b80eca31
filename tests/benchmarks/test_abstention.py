"""Tables of the benchmark of abstention."""

import numpy as np

from benchmarks.abstention import FoldOutcome, coverages_table, promises_table
from modules.evaluation.intervals import Predictions


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]


def test_a_promise_that_cannot_be_made_is_neither_kept_nor_broken():
    folds = [FoldOutcome(answered=50, clips=100, errors=5), FoldOutcome(answered=30, clips=100, errors=6), None]
    assert cells(promises_table({0.1: folds})) == [["10", "40", "13.8", "1 of 2", "10.0, 20.0, none"]]


def test_coverages_are_those_of_the_report():
    confidence = np.linspace(0.99, 0.6, 40)
    labels = (np.arange(40) >= 30).astype(int)  # the last ten are wrong
    predictions = Predictions.of(labels, np.stack([confidence, 1 - confidence], axis=1), ["a", "b", "c", "d", "e"] * 8)
    rows = cells(coverages_table(predictions))
    assert [row[:2] for row in rows] == [["100", "0.60"], ["75", "0.70"], ["50", "0.80"], ["25", "0.90"]]
    assert [row[2].partition(" ")[0] for row in rows] == ["75.0%", "100.0%", "100.0%", "100.0%"]
