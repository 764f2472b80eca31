"""Flat record of a run's parameters and metrics, for comparison with other runs."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from modules.reporting import summary

Value = float | int | str  # types that Vertex AI Experiments accepts

# Metrics of single speakers are in the report alone, since they would outnumber the others.
_UNLOGGED_SLICES = ("speaker",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Parameters and metrics of a run.

    Attributes:
        run: Id of the run.
        parameters: Configuration, such as ``training.epochs``, and addresses of results, such as ``report``.
        metrics: Results, such as ``test_uar`` with the bounds of its interval, ``test_uar_low`` and ``test_uar_high``.
            Non-finite values are left out.
        error: Why the run failed; None if it did not.
    """

    run: str
    parameters: dict[str, Value]
    metrics: dict[str, Value]
    error: str | None = None


def record(results: summary.RunSummary, *, config: Mapping[str, Any], run: str, report: str) -> Record:
    """Return the record of a summary.

    Args:
        results: Summary of the run.
        config: Configuration as a tree.
        run: Id of the run.
        report: Folder of ``report.html``.
    """
    parameters = dict(flat(config)) | {"report": report}
    if results.training:
        parameters |= dict(flat({"trained": {"family": results.training.family, **results.training.hyperparameters}}))
    if results.data:
        parameters["audio_spec_fingerprint"] = results.data.audio_spec_fingerprint
    if results.pushed and results.pushed.version:
        pushed = {"version": results.pushed.version, "to": results.pushed.path, "endpoint": results.pushed.endpoint}
        parameters |= {f"pushed_{name}": value for name, value in pushed.items() if value is not None}
    values: dict[str, Value] = {name: value for name, value in _metrics(results) if value is not None}
    return Record(run=run, parameters=parameters, metrics=values)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield leaves by dotted name, lists as JSON, without unset ones.

    Args:
        tree: Values by name, at any depth.
        prefix: Prefix of the names.
    """
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            yield prefix + key, value
        elif value is not None:
            yield prefix + key, json.dumps(value)


def _metrics(results: summary.RunSummary) -> Iterator[tuple[str, float | None]]:
    if results.evaluation:
        yield from _evaluation(results.evaluation)
    for difference in results.baseline.differences if results.baseline else ():
        yield from _with_bounds(f"{difference.name}_minus_baseline", difference.difference, difference)
    if results.verdict:
        yield "blessed", float(results.verdict.blessed)
    if results.training:
        yield "epochs", results.training.epochs_run
        yield "training_sec", results.training.seconds
        yield from _curves(results.training)
    for drift in results.drift:
        yield from _drift(drift)
    for split in results.data.splits if results.data else ():
        yield f"{split.split}_clips", split.clips


def _curves(training: summary.Training) -> Iterator[tuple[str, float | None]]:
    """Yield each curve's value at the kept epoch and at the last one: a whole curve would need a TensorBoard."""
    yield "kept_epoch", training.kept_epoch
    for name, values in training.history.items():
        if training.kept_epoch and training.kept_epoch <= len(values):
            yield f"{name}_at_kept_epoch", values[training.kept_epoch - 1]
        if values:
            yield f"{name}_at_last_epoch", values[-1]


def _drift(drift: summary.Drift) -> Iterator[tuple[str, float | None]]:
    """Yield the figures of a comparison, such as ``drift_new_data_p_value``; none where nothing was compared."""
    if drift.not_compared is not None:
        return
    kind, _, _ = drift.what.partition(" of ")  # the rest names a span, which changes from run to run
    name = f"drift_{kind.replace(' ', '_')}"
    yield name, float(drift.drifted)
    yield f"{name}_p_value", drift.p_value
    yield f"{name}_clips", drift.current_clips
    if drift.mean_ks:
        yield f"{name}_mean_ks", drift.mean_ks.value
        yield f"{name}_mean_ks_limit", drift.mean_ks.threshold


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
