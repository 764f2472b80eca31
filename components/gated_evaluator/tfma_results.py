"""Reader of TFMA's results."""

from collections.abc import Iterator
from typing import Any

import tensorflow_model_analysis as tfma

from components.gated_evaluator import confusion_metrics as metrics
from modules.evaluation.gate import Slice


def read_uars(evaluation_uri: str) -> dict[Slice, float]:
    """Return the candidate's UAR by slice.

    Args:
        evaluation_uri: Folder of TFMA's results.
    """
    uars: dict[Slice, float] = {}
    for record in tfma.load_metrics(evaluation_uri):
        where = _slice(record.slice_key)
        for metric in record.metric_keys_and_values:
            of_candidate = metric.key.model_name != tfma.BASELINE_KEY and not metric.key.is_diff
            if metric.key.name == metrics.NAME and of_candidate:
                uars[where] = metric.value.double_value.value
    return uars


def read_violations(evaluation_uri: str) -> tuple[str, ...]:
    """Return each violated threshold of TFMA with metric, slice, value and bound.

    Args:
        evaluation_uri: Folder of TFMA's results.
    """
    return tuple(_violations(tfma.load_validation_result(evaluation_uri)))


def _violations(result: Any) -> Iterator[str]:
    for part in result.metric_validations_per_slice:
        where = "".join(f" of {column} {value}" for column, value in _slice(part.slice_key))
        for failure in part.failures:
            name = f"{failure.metric_key.name}{where}"
            value, threshold = failure.metric_value.double_value.value, failure.metric_threshold
            if threshold.HasField("change_threshold"):
                yield f"{name} changed by {value:+.3f}; allowed: {threshold.change_threshold.absolute.value:+.3f}"
            else:
                yield f"{name} is {value:.3f}; allowed: at least {threshold.value_threshold.lower_bound.value:.3f}"


def _slice(key: Any) -> Slice:
    return tuple(sorted((part.column, part.bytes_value.decode()) for part in key.single_slice_keys))
