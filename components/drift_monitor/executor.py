"""Executor of the DriftMonitor."""

import dataclasses
import json
import logging
import os
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.artifacts import DRIFT_FILE, Artifacts, Properties
from components.audio_example_gen import ingest_summary
from components.drift_monitor import endpoint_log, reference, sources
from components.drift_monitor.comparison import Comparison, compare
from components.drift_monitor.settings import MonitorSettings
from modules.audio.spec import AudioSpecMismatch
from modules.common.errors import SerError
from modules.drift import comparison as drift
from modules.evaluation import gate

EXAMPLES_KEY = "examples"
SCHEMA_KEY = "schema"
REFERENCE_KEY = "reference"
SETTINGS_KEY = "settings"
MODELS_KEY = "models"
DRIFT_KEY = "drift"

NEW_DATA = "new data"
REQUESTS = "requests"

_LOG = logging.getLogger(__name__)


class DriftAlarm(SerError, RuntimeError):
    """The data drifted and ``drift.stop_on`` demands that the run stops.

    Attributes:
        folder: Folder of ``drift.json``.
    """

    code = "drift.alarm"

    def __init__(self, message: str, *, folder: str) -> None:
        """Keep the folder.

        Args:
            message: What drifted and what to do.
            folder: Folder of ``drift.json``.
        """
        super().__init__(message)
        self.folder = folder


class Executor(base_executor.BaseExecutor):
    """Comparison of the run's training split and of logged requests with the reference's training split."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Write ``drift.json``.

        Args:
            input_dict: Examples, schema, and the reference if one was resolved.
            output_dict: The comparisons.
            exec_properties: Settings of the monitor, and the folder of pushed models if it gives the reference.

        Raises:
            DriftAlarm: ``stop_on`` applies to the drift. ``drift.json`` is in a folder next to that of the artifact
                then, since TFX deletes the latter.
        """
        settings = MonitorSettings.from_json(exec_properties[SETTINGS_KEY])
        schema = _read_schema(input_dict)
        examples_uri = artifact_utils.get_single_uri(input_dict[EXAMPLES_KEY])
        resolved = input_dict.get(REFERENCE_KEY) or []
        if resolved and not settings.reference:
            reference_uri = artifact_utils.get_single_uri(resolved)
        else:
            reference_uri = _reference_uri(settings.reference, exec_properties.get(MODELS_KEY) or "", examples_uri)
        comparisons = [_compare_new_data(reference_uri, examples_uri, settings, schema)]
        if settings.request_log:
            # Without a baseline, requests are compared with the data that will be trained on.
            comparisons.append(_compare_requests(reference_uri or examples_uri, settings, schema))
        folder = artifact_utils.get_single_uri(output_dict[DRIFT_KEY])
        stops = _stops_run(comparisons[0], settings)
        folder = f"{folder.rstrip('/')}-stopped" if stops else folder
        text = json.dumps({"comparisons": comparisons}, indent=2, allow_nan=False)
        io_utils.write_string_file(os.path.join(folder, DRIFT_FILE), text)
        if stops:
            raise _alarm(comparisons[0], settings, folder)


def _reference_uri(configured: str, models: str, examples_uri: str) -> str:
    """Return the configured examples, or those that the newest pushed model was trained on; empty without any.

    The run's own are left out: a run without changes would compare the data with themselves.
    """
    if configured and not reference.names_model(configured):
        return configured
    recorded = reference.training_examples(configured or models) if configured or models else []
    return next((uri for uri in recorded if uri.rstrip("/") != examples_uri.rstrip("/")), "")


def _read_schema(input_dict: Artifacts) -> schema_pb2.Schema:
    folder = artifact_utils.get_single_uri(input_dict[SCHEMA_KEY])
    return io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(folder))


def _compare_new_data(
    reference_uri: str, examples_uri: str, settings: MonitorSettings, schema: schema_pb2.Schema
) -> dict[str, Any]:
    """Return an entry of ``drift.json``, with ``not_compared`` in place of ``report`` if it cannot be computed.

    Of a window of spans, the newest alone is compared, since earlier runs compared the others.
    """
    newest = sources.newest_span(examples_uri)
    comparison: dict[str, Any] = {
        "what": f"{NEW_DATA} of {newest}" if newest else NEW_DATA,
        "reference": reference_uri,
        "current": examples_uri,
    }
    if not reference_uri:
        return comparison | {"not_compared": "No blessed model was trained on other data yet."}
    try:
        sources.spec_of_examples(reference_uri).require_same(
            sources.spec_of_examples(examples_uri).fingerprint, whose=examples_uri
        )
        reference, current = sources.read_clips(reference_uri), sources.read_clips(examples_uri, below=newest)
        result = compare(reference, current, schema, settings)
    except (drift.NotComparable, sources.UnreadableSample, AudioSpecMismatch) as error:
        return comparison | _not_compared(comparison["what"], error)
    result = dataclasses.replace(result, remarks=(*result.remarks, *_shared_speakers(reference_uri, examples_uri)))
    return comparison | _compared(comparison["what"], result)


def _compare_requests(reference_uri: str, settings: MonitorSettings, schema: schema_pb2.Schema) -> dict[str, Any]:
    comparison = {"what": REQUESTS, "reference": reference_uri, "current": settings.request_log}
    try:
        spec = sources.spec_of_examples(reference_uri)
        newest = endpoint_log.Newest(settings.request_log_days, settings.request_log_rows)
        reference = sources.read_clips(reference_uri)
        current = sources.read_requests(settings.request_log, spec=spec, newest=newest)
        result = compare(reference, current, schema, settings)
    except (drift.NotComparable, sources.UnreadableSample, AudioSpecMismatch) as error:
        return comparison | _not_compared(REQUESTS, error)
    return comparison | _compared(REQUESTS, result)


def _not_compared(what: str, error: Exception) -> dict[str, Any]:
    _LOG.warning("cannot compare %s: %s", what, error)
    return {"not_compared": str(error)}


def _compared(what: str, result: Comparison) -> dict[str, Any]:
    if result.drifted:
        _LOG.warning("%s drifted: %s", what, " ".join(result.reasons))
    return {"report": result.to_dict()}


def _shared_speakers(reference_uri: str, examples_uri: str) -> list[str]:
    """Return a remark if the baseline was trained on present test speakers, which would favour it."""
    protocols = (ingest_summary.protocol(examples_uri), ingest_summary.protocol(reference_uri))
    shared = gate.baseline_only_speakers(*protocols)
    if not shared:
        return []
    return [
        f"The blessed model was trained on {len(shared)} of the test speakers ({', '.join(shared)}); the gate "
        "compares it on the others alone. Set splits.test_speakers, or add recordings as spans."
    ]


def _stops_run(comparison: dict[str, Any], settings: MonitorSettings) -> bool:
    report = comparison.get("report")
    if not report:
        return False
    return {"never": False, "labels": report["labels_suspect"], "any": report["drifted"]}[settings.stop_on]


def _alarm(comparison: dict[str, Any], settings: MonitorSettings, folder: str) -> DriftAlarm:
    return DriftAlarm(
        f"The {comparison['what']} at {comparison['current']} drifted from those of {comparison['reference']}, and "
        f"drift.stop_on is {settings.stop_on!r}; the run stops before training:\n  "
        + "\n  ".join(comparison["report"]["reasons"])
        + f"\nAll comparisons: {os.path.join(folder, DRIFT_FILE)}"
        + "\nFix the recordings or their labels; or, if they are correct, set drift.stop_on=never.",
        folder=folder,
    )
