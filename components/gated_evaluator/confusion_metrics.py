"""Metrics of the confusion matrix that TensorFlow Model Analysis lacks. Importing the module registers them.

TFMA has no macro average over the classes that occur and no multi-class Matthews correlation, and its per-class
precision and recall compare a class's own probability with a threshold, not with those of the other classes. The
confusion matrix is TFMA's; the formulas are :func:`modules.evaluation.intervals.confusion_scores`.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.metrics import multi_class_confusion_matrix_metrics as confusion
from tensorflow_model_analysis.proto import config_pb2

from modules.evaluation.intervals import CLASS_METRICS, confusion_scores

NAME = "unweighted_average_recall"
SCORES = ("macro_precision", "macro_f1", "mcc", *CLASS_METRICS)

# Every prediction passes this threshold, except non-finite ones, which are replaced by it.
_ANY = -math.inf


class ConfusionScore(metric_types.Metric):
    """Metric of the confusion matrix by scikit-learn's definition, with macro averages over the labels that occur.

    The UAR is its ``balanced_accuracy_score``. A class without examples in a slice is left out of that slice's mean;
    TFMA's own macro-averaged ``Recall`` counts it as 0. A prediction with a NaN is wrong. Scores of single classes have
    the class's number as sub-key.
    """

    def __init__(self, score: str, classes: int, name: str | None = None) -> None:
        """Create the metric.

        Args:
            score: Name of the score in :func:`modules.evaluation.intervals.confusion_scores`.
            classes: Number of emotions.
            name: Name of the metric; that of the score by default.
        """
        computations = metric_util.merge_per_key_computations(_computations)
        super().__init__(computations, score=score, classes=classes, name=name or score)


metric_types.register_metric(ConfusionScore)


def metric_config(classes: int) -> config_pb2.MetricConfig:
    """Return the configuration of the UAR, the mean recall over the classes.

    Args:
        classes: Number of emotions.
    """
    return _config("uar", classes, NAME)


def score_configs(classes: int) -> list[config_pb2.MetricConfig]:
    """Return the configurations of the other metrics of the confusion matrix.

    Args:
        classes: Number of emotions.
    """
    return [_config(score, classes, score) for score in SCORES]


def _config(score: str, classes: int, name: str) -> config_pb2.MetricConfig:
    config = json.dumps({"score": score, "classes": classes, "name": name})
    return config_pb2.MetricConfig(class_name=ConfusionScore.__name__, module=__name__, config=config)


def dense_confusion(matrix: dict[confusion.MatrixEntryKey, float], classes: int) -> np.ndarray:
    """Return TFMA's confusion matrix as an array.

    Args:
        matrix: Weights by entry.
        classes: Number of emotions.

    Returns:
        float64 of shape ``[true, predicted]``; the last predicted class is that of non-finite predictions.
    """
    size = 1 + max(classes, *(entry.actual_class_id + 1 for entry in matrix)) if matrix else 1
    dense = np.zeros((size, size))
    for entry, weight in matrix.items():
        dense[entry.actual_class_id, entry.predicted_class_id] += weight  # TFMA's "no class" is -1, the last index
    return dense


def _scores(matrix: dict[confusion.MatrixEntryKey, float], classes: int) -> dict[str, np.ndarray]:
    return confusion_scores(dense_confusion(matrix, classes)) if matrix else _undefined_scores(classes)


def _undefined_scores(classes: int) -> dict[str, np.ndarray]:
    names = ("uar", *SCORES)
    return {name: np.full(classes if name in CLASS_METRICS else (), math.nan) for name in names}


def _computations(
    score: str,
    classes: int,
    name: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    """Derive the metric from TFMA's confusion matrix, so that slices and confidence intervals work as for its own."""
    counting = confusion.multi_class_confusion_matrices(
        thresholds=[_ANY],
        name="_confusion_of_decisions",
        extract_label_prediction_and_weight=_nan_as_no_prediction,
        eval_config=eval_config,
        model_name=model_name,
        output_name=output_name,
        example_weighted=example_weighted,
    )
    matrices_key = counting[-1].keys[-1]
    sub_keys = [None]
    if score in CLASS_METRICS:
        sub_keys = [metric_types.SubKey(class_id=index) for index in range(classes)]
    keys = [
        metric_types.MetricKey(
            name=name,
            model_name=model_name,
            output_name=output_name,
            example_weighted=example_weighted,
            sub_key=sub_key,
        )
        for sub_key in sub_keys
    ]

    def result(metrics: dict[metric_types.MetricKey, Any]) -> dict[metric_types.MetricKey, float]:
        values = np.atleast_1d(_scores(metrics[matrices_key].get(_ANY, {}), classes)[score])
        return {key: float(value) for key, value in zip(keys, values, strict=False)}

    return [*counting, metric_types.DerivedMetricComputation(keys=keys, result=result)]


def _nan_as_no_prediction(
    inputs: metric_types.StandardMetricInputs, **options: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Extract as TFMA does, and replace predictions with a NaN, whose ``argmax`` would be a class."""
    for label, prediction, weight in metric_util.to_label_prediction_example_weight(inputs, **options):
        usable = not np.isnan(prediction).any()
        yield label, prediction if usable else np.full_like(prediction, _ANY), weight
