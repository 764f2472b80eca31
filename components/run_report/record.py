"""Values of a run that are logged for comparison with other runs: flat parameters and metrics."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from modules.reporting import summary

Value = float | int | str  # what Vertex AI Experiments takes

# A metric for each speaker would bury the rest; the report has them.
_UNLOGGED_SLICES = ("speaker",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A run as names and values.

    Attributes:
        run: The run's id, where the platform gives one.
        parameters: Settings of the run (``training.epochs``), and the folder of its results, ``report``.
        metrics: Results of the run: ``test_uar`` with its interval, ``test_uar_low`` and ``test_uar_high``.
            Non-finite values are left out.
    """

    run: str
    parameters: dict[str, Value]
    metrics: dict[str, Value]


def record(found: summary.RunSummary, *, config: Mapping[str, Any], run: str, report: str) -> Record:
    """Return the record of a summary.

    Args:
        found: Summary of the run.
        config: The configuration as a tree.
        run: Id of the run.
        report: Folder of ``report.html``.
    """
    parameters = dict(_flat(config)) | {"report": report}
    if found.training:
        parameters |= dict(_flat({"trained": {"family": found.training.family, **found.training.hyperparameters}}))
    if found.data:
        parameters["audio_spec_fingerprint"] = found.data.audio_spec_fingerprint
    if found.pushed and found.pushed.version:
        told = {"version": found.pushed.version, "to": found.pushed.path, "endpoint": found.pushed.endpoint}
        parameters |= {f"pushed_{name}": value for name, value in told.items() if value is not None}
    values: dict[str, Value] = {name: value for name, value in _metrics(found) if value is not None}
    return Record(run=run, parameters=parameters, metrics=values)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Leaves by dotted name; lists as JSON; what is not set is left out."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            yield prefix + key, value
        elif value is not None:
            yield prefix + key, json.dumps(value)


def _metrics(found: summary.RunSummary) -> Iterator[tuple[str, float | None]]:
    if found.evaluation:
        yield from _evaluation(found.evaluation)
    for difference in found.baseline.differences if found.baseline else ():
        yield from _with_bounds(f"{difference.name}_minus_baseline", difference.difference, difference)
    if found.verdict:
        yield "blessed", float(found.verdict.blessed)
    if found.training:
        yield "epochs", found.training.epochs_run
        yield "training_sec", found.training.seconds
    for split in found.data.splits if found.data else ():
        yield f"{split.split}_clips", split.clips


def _evaluation(evaluation: summary.Evaluation) -> Iterator[tuple[str, float | None]]:
    for metric in evaluation.metrics:
        if metric.source == "predictions":
            yield from _with_bounds(f"{evaluation.split}_{metric.name}", metric.value, metric)
    for part in evaluation.slices:
        uar = part.metric("uar")
        if uar and part.dimension not in _UNLOGGED_SLICES:
            yield f"{evaluation.split}_uar_{part.dimension}_{part.value}".replace(" ", "_"), uar.value


def _with_bounds(
    name: str, value: float | None, interval: summary.Metric | summary.Difference
) -> Iterator[tuple[str, float | None]]:
    yield name, value
    yield f"{name}_low", interval.low
    yield f"{name}_high", interval.high
