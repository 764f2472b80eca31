"""Metrics in TFMA itself, with its slices, thresholds and confidence intervals."""

import numpy as np
import pandas as pd
import pytest
import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from sklearn.metrics import balanced_accuracy_score, recall_score
from tensorflow_model_analysis.proto import config_pb2

from components.gated_evaluator import confusion_metrics as metrics
from components.gated_evaluator.confusion_metrics import NAME

CLASSES = 7


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """Predictions for four speakers. The second has no example of two classes, and a prediction is NaN."""
    rng = np.random.default_rng(5)
    labels = rng.choice(CLASSES, size=240, p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    probabilities = rng.dirichlet(np.ones(CLASSES), size=labels.size) + 0.4 * np.eye(CLASSES)[labels]
    speakers = np.repeat(["a", "b", "c", "d"], 60)
    labels[(speakers == "b") & (labels >= 5)] = 0
    probabilities[7] = np.nan
    return pd.DataFrame(
        {
            "label": labels,
            "prediction": list(probabilities / probabilities.sum(axis=1, keepdims=True)),
            "speaker": speakers,
        }
    )


def analyse(frame: pd.DataFrame, slices: tuple[str, ...] = (), intervals: str | None = None) -> tfma.EvalResult:
    options = config_pb2.Options()
    if intervals:
        options.compute_confidence_intervals.CopyFrom(wrappers_pb2.BoolValue(value=True))
        options.confidence_intervals.method = config_pb2.ConfidenceIntervalOptions.ConfidenceIntervalMethod.Value(
            intervals
        )
    return tfma.analyze_raw_data(
        frame,
        config_pb2.EvalConfig(
            model_specs=[config_pb2.ModelSpec(label_key="label", prediction_key="prediction")],
            metrics_specs=[config_pb2.MetricsSpec(metrics=[metrics.metric_config(CLASSES)])],
            slicing_specs=[config_pb2.SlicingSpec(), *(config_pb2.SlicingSpec(feature_keys=[key]) for key in slices)],
            options=options,
        ),
    )


def values_by_slice(result: tfma.EvalResult) -> dict[tuple, dict]:
    return {slice_key: values[""][""][NAME] for slice_key, values in result.slicing_metrics}


@pytest.fixture(scope="module")
def result(predictions):
    return analyse(predictions, slices=("speaker",))


def decisions(frame: pd.DataFrame) -> np.ndarray:
    """Return predicted classes; for a NaN, a class without examples."""
    stacked = np.stack(frame["prediction"])
    return np.where(np.isnan(stacked).any(axis=1), CLASSES, stacked.argmax(axis=1))


def test_agrees_with_scikit_learn_on_every_slice(predictions, result):
    values = values_by_slice(result)
    assert len(values) == 5
    for slice_key, value in values.items():
        part = predictions[predictions["speaker"] == slice_key[0][1]] if slice_key else predictions
        labels, decided = part["label"], decisions(part)
        macro = recall_score(labels, decided, labels=np.unique(labels), average="macro")
        assert value["doubleValue"] == pytest.approx(macro, abs=1e-6)
        assert value["doubleValue"] == pytest.approx(balanced_accuracy_score(labels, decided), abs=1e-6)


def test_class_without_examples_is_left_out(predictions, result):
    absent = set(range(CLASSES)) - set(predictions[predictions["speaker"] == "b"]["label"])
    assert absent == {5, 6}
    present_only = values_by_slice(result)[(("speaker", "b"),)]["doubleValue"]
    part = predictions[predictions["speaker"] == "b"]
    with_zeros = recall_score(part["label"], decisions(part), labels=range(CLASSES), average="macro", zero_division=0)
    assert present_only == pytest.approx(with_zeros * CLASSES / 5, abs=1e-6)


@pytest.mark.parametrize("method", ["JACKKNIFE", "POISSON_BOOTSTRAP"])
def test_confidence_intervals_enclose_the_value(predictions, result, method):
    unweighted = values_by_slice(result)[()]["doubleValue"]
    bounded = values_by_slice(analyse(predictions, intervals=method))[()]["boundedValue"]
    assert bounded["lowerBound"] < unweighted < bounded["upperBound"]
    assert bounded["upperBound"] - bounded["lowerBound"] < 0.3
    assert bounded["value"] == pytest.approx(unweighted, abs=0.02)


@pytest.mark.parametrize(("threshold", "passes"), [(0.1, True), (0.99, False)])
def test_threshold_decides(predictions, tmp_path, threshold, passes):
    config = metrics.metric_config(CLASSES)
    config.threshold.value_threshold.lower_bound.value = threshold
    tfma.analyze_raw_data(
        predictions,
        config_pb2.EvalConfig(
            model_specs=[config_pb2.ModelSpec(label_key="label", prediction_key="prediction")],
            metrics_specs=[config_pb2.MetricsSpec(metrics=[config])],
        ),
        output_path=str(tmp_path),
    )
    verdict = tfma.load_validation_result(str(tmp_path))
    assert verdict.validation_ok is passes
