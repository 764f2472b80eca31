"""Metrics that need every prediction at once. Importing the module registers them with TFMA.

TFMA approximates the area under the ROC curve from a histogram of thresholds and has no calibration error of the
decision. Both are exact here, by the formulas of :mod:`modules.evaluation.intervals`. They hold the predictions of a
slice in memory, eight numbers per example.
"""

import json
import math
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2

from modules.evaluation.intervals import Predictions, point_estimates

SCORES = ("auc", "ece")

_Pairs = list[tuple[int, np.ndarray]]


class PredictionScore(metric_types.Metric):
    """Mean one-vs-rest AUC over the classes that occur, or the expected calibration error in ten bins of equal width.

    It is NaN if a prediction is not finite.
    """

    def __init__(self, score: str, name: str | None = None) -> None:
        """Create the metric.

        Args:
            score: Name of the score in :func:`modules.evaluation.intervals.point_estimates`.
            name: Name of the metric; that of the score by default.
        """
        super().__init__(metric_util.merge_per_key_computations(_computations), score=score, name=name or score)


metric_types.register_metric(PredictionScore)


def score_configs() -> list[config_pb2.MetricConfig]:
    """Return the configurations of the metrics."""
    return [
        config_pb2.MetricConfig(
            class_name=PredictionScore.__name__, module=__name__, config=json.dumps({"score": score, "name": score})
        )
        for score in SCORES
    ]


def _computations(
    score: str,
    name: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
) -> metric_types.MetricComputations:
    collected = metric_types.MetricKey(name="_collected", model_name=model_name, output_name=output_name)
    key = metric_types.MetricKey(name=name, model_name=model_name, output_name=output_name)

    def result(metrics: dict[metric_types.MetricKey, Any]) -> dict[metric_types.MetricKey, float]:
        return {key: _score(metrics[collected], score)}

    return [
        metric_types.MetricComputation(keys=[collected], preprocessors=None, combiner=_Collect(collected, eval_config)),
        metric_types.DerivedMetricComputation(keys=[key], result=result),
    ]


def _score(pairs: _Pairs, score: str) -> float:
    rows = np.array([row for _, row in pairs], dtype=np.float64)
    if not len(rows) or not np.isfinite(rows).all():
        return math.nan
    predictions = Predictions.of([label for label, _ in pairs], rows, [""] * len(rows))
    return float(point_estimates(predictions, (score,))[score])


class _Collect(beam.CombineFn):
    """Combiner of labels and predictions into a list."""

    def __init__(self, key: metric_types.MetricKey, eval_config: config_pb2.EvalConfig | None) -> None:
        self._key = key
        self._eval_config = eval_config

    def create_accumulator(self) -> _Pairs:
        return []

    def add_input(self, accumulator: _Pairs, element: metric_types.StandardMetricInputs) -> _Pairs:
        label, prediction, _ = next(
            metric_util.to_label_prediction_example_weight(
                element,
                eval_config=self._eval_config,
                model_name=self._key.model_name,
                output_name=self._key.output_name,
                flatten=False,
            )
        )
        accumulator.append((int(np.asarray(label).item()), np.asarray(prediction)))
        return accumulator

    def merge_accumulators(self, accumulators: Any) -> _Pairs:
        return [pair for accumulator in accumulators for pair in accumulator]

    def extract_output(self, accumulator: _Pairs) -> dict[metric_types.MetricKey, _Pairs]:
        return {self._key: accumulator}
