"""Reader of TFMA's results."""

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
        where = tuple(sorted((key.column, key.bytes_value.decode()) for key in record.slice_key.single_slice_keys))
        for metric in record.metric_keys_and_values:
            of_candidate = metric.key.model_name != tfma.BASELINE_KEY and not metric.key.is_diff
            if metric.key.name == metrics.NAME and of_candidate:
                uars[where] = metric.value.double_value.value
    return uars
