"""Arguments of an executor's ``Do``, and the names of files and properties that other components read.

The names are here and not in the executors that write them, so that readers do not import TFMA or clients of the cloud.
"""

from typing import Any

from tfx import types

Artifacts = dict[str, list[types.Artifact]]
"""Artifacts of each input or output, by its name in the component's specification."""

Properties = dict[str, Any]
"""Execution properties by name; protocol buffers among them are JSON."""

METRICS_FILE = "metrics.json"
"""Metrics of the candidate with intervals, in the ModelEvaluation of the GatedEvaluator."""

COMPARISON_FILE = "comparison.json"
"""Comparison with the baseline, in the same artifact; missing if there is nothing to compare with."""

VERDICT_FILE = "verdict.json"
"""Checks and decision of the gate, in the ModelBlessing of the GatedEvaluator."""

DRIFT_FILE = "drift.json"
"""Comparisons of the DriftMonitor, in its ExampleAnomalies."""

TRIALS_FILE = "trials.json"
"""Outcome and curves of every trial, in the TunerResults of the ResumableTuner."""

VALIDATED_FILE = "model_manifest.json"
"""Name of the manifest of the validated model, in the ServingValidator's blessing."""

ENDPOINT_PROPERTY = "endpoint"
"""Address that clients use, a custom property of the VertexPusher's PushedModel."""
