import numpy as np

from benchmarks import edge
from modules.evaluation.intervals import Predictions


def test_rows_compare_files_with_the_saved_model():
    labels, speakers = np.tile(np.arange(7), 4), np.repeat(["a", "b"], 14).tolist()
    right = np.full([28, 7], 0.1) + 0.3 * np.eye(7)[labels]
    moved = right.copy()
    moved[labels == 0] = np.roll(right[labels == 0], 1, axis=1)  # every clip of one class is wrong
    predictions = {
        name: Predictions.of(labels, rows, speakers)
        for name, rows in {edge.SAVED_MODEL: right, "TFLite": right + 1e-9, "TFLite, int8": moved}.items()
    }
    sizes = dict(zip(predictions, (3000.4, 1000.0, 400.0), strict=True))
    seconds = dict(zip(predictions, (0.02, 0.01, 0.005), strict=True))
    first, same, other = edge.rows(sizes, seconds, predictions)
    assert first == [edge.SAVED_MODEL, "3000", "1.00", "", ""]
    assert same[:3] == ["TFLite", "1000", "0.50"]
    assert float(same[3]) < 1e-8
    assert same[4].startswith("+0.0 ")
    assert other[2:4] == ["0.25", "3e-01"]
    assert other[4].startswith("-14.3 ")
    assert "28 windows of 2 unseen speakers. UAR of the SavedModel: 100.0 %" in edge.table(sizes, seconds, predictions)
