"""What each metric is called, how it is read and which direction is better."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricName:
    """How people read one metric.

    Attributes:
        title: Name in the report.
        meaning: One clause that a reader who does not know the metric understands.
        higher_is_better: Direction of improvement.
        percent: Written as a percentage, else as a plain number.
    """

    title: str
    meaning: str
    higher_is_better: bool = True
    percent: bool = False


METRIC_NAMES: dict[str, MetricName] = {
    "uar": MetricName(
        title="UAR", meaning="unweighted average recall: each emotion counts the same, however rare", percent=True
    ),
    "accuracy": MetricName(title="Accuracy", meaning="clips named correctly", percent=True),
    "macro_precision": MetricName(
        title="Macro precision", meaning="how often a named emotion is right, averaged over emotions", percent=True
    ),
    "macro_f1": MetricName(
        title="Macro F1", meaning="harmonic mean of precision and recall, averaged over emotions", percent=True
    ),
    "mcc": MetricName(title="MCC", meaning="Matthews correlation: 0 is guessing, 1 is perfect"),
    "auc": MetricName(title="AUC", meaning="one emotion against the rest, averaged: 0.5 is guessing, 1 is perfect"),
    "log_loss": MetricName(title="Log loss", meaning="nats per clip; lower is better", higher_is_better=False),
    "ece": MetricName(
        title="ECE", meaning="gap between stated confidence and accuracy; lower is better", higher_is_better=False
    ),
}


def metric_name(name: str) -> MetricName:
    """The reading of ``name``; an unknown one, such as a metric that TFMA alone computes, is shown as it is."""
    return METRIC_NAMES.get(name, MetricName(title=name, meaning=""))
