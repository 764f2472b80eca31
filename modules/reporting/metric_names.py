"""Names of metrics for people, and texts of their values."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricName:
    """Presentation of one metric.

    Attributes:
        title: Name in the report.
        meaning: Explanation in one clause.
        higher_is_better: Direction of improvement.
        percent: Whether values are written as percentages.
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
    """Return the presentation of a metric; that of an unknown one, such as of TFMA, has the name as its title."""
    return METRIC_NAMES.get(name, MetricName(title=name, meaning=""))


def metric_text(value: float | None, name: str, *, missing: str = "unknown") -> str:
    """Return a value as text, in the unit of the metric.

    Args:
        value: Value of the metric, 0 to 1 for percentages; None if unknown.
        name: Name of the metric.
        missing: Text for None.
    """
    if value is None:
        return missing
    return f"{value:.1%}" if metric_name(name).percent else f"{value:.3f}"


def range_text(low: float | None, high: float | None, name: str) -> str:
    """Return the limits of an interval as text; empty if they are unknown.

    Args:
        low: Lower limit in the unit of the metric.
        high: Upper limit.
        name: Name of the metric.
    """
    return "" if low is None or high is None else f"{metric_text(low, name)} to {metric_text(high, name)}"
