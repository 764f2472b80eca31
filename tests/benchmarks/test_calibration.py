import numpy as np
import pytest

from benchmarks import calibration
from modules.evaluation.calibration import apply_temperature
from modules.evaluation.intervals import Predictions
from pipeline.cross_validation.run import FoldResult

SURE = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])


def result(temperature: float) -> FoldResult:
    """Return the result of a fold with the probabilities :data:`SURE` and this temperature."""
    rows = apply_temperature(SURE, temperature).tolist()
    speakers = {"train": ("a",), "eval": ("b",), "test": ("c",)}
    return FoldResult(
        name="c",
        clip_ids=("1", "2"),
        probabilities=rows,
        epochs=1,
        seconds=1.0,
        parameters=1,
        temperature=temperature,
        **speakers,
    )


@pytest.mark.parametrize("other", [0.5, 1.0, 3.0])
def test_another_temperature_replaces_the_first(other):
    changed = calibration.retempered(result(1.7), other)
    np.testing.assert_allclose(changed.probabilities, apply_temperature(SURE, other))
    assert changed == result(1.7).model_copy(update={"probabilities": changed.probabilities, "temperature": other})


def test_table_has_errors_intervals_and_temperatures():
    labels, speakers = np.tile([0, 1, 2], 20), np.repeat(["a", "b", "c", "d"], 15).tolist()
    predictions = Predictions.of(labels, np.full((60, 3), 1 / 3), speakers)
    choices = [calibration.Tempered(chosen, predictions) for chosen in ((1.0, 1.0), (0.5, 2.5), (0.9, 1.25))]
    _, _, errors, _, _, _, temperatures = calibration.to_markdown({"original_cnn": choices}).splitlines()
    assert errors == "| `original_cnn` | " + " | ".join(["0.000 (0.000 to 0.000)"] * 3) + " |"
    assert temperatures == "| `original_cnn` | 0.50 to 2.50 | 0.90 to 1.25 |"
