"""The work of the DriftMonitor."""

import json
import logging
import os
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.drift_monitor import sources
from components.drift_monitor.settings import MonitorSettings
from modules import drift
from modules.audio_spec import AudioSpecMismatch

EXAMPLES_KEY = "examples"
REFERENCE_KEY = "reference"
SETTINGS_KEY = "settings"
DRIFT_KEY = "drift"
DRIFT_FILE = "drift.json"

NEW_DATA = "new data"
REQUESTS = "requests"

_LOG = logging.getLogger(__name__)


class DriftAlarm(RuntimeError):
    """The data drifted so that nothing may be trained on them; the message says what drifted."""


class Executor(base_executor.BaseExecutor):
    """Compares the run's training split, and the requests where a log is named, with the reference's training split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes ``drift.json``.

        Raises:
            DriftAlarm: ``stop_on`` names what drifted.
        """
        settings = MonitorSettings.from_json(exec_properties[SETTINGS_KEY])
        examples_uri = artifact_utils.get_single_uri(input_dict[EXAMPLES_KEY])
        resolved = input_dict.get(REFERENCE_KEY) or []
        reference_uri = settings.reference or (artifact_utils.get_single_uri(resolved) if resolved else "")
        comparisons = [_compare(NEW_DATA, reference_uri, examples_uri, settings)]
        if settings.request_log:
            # Where there is no baseline yet, what is served is compared with what is trained on now.
            comparisons.append(_compare(REQUESTS, reference_uri or examples_uri, settings.request_log, settings))
        folder = artifact_utils.get_single_uri(output_dict[DRIFT_KEY])
        io_utils.write_string_file(
            os.path.join(folder, DRIFT_FILE), json.dumps({"comparisons": comparisons}, indent=2, allow_nan=False)
        )
        _raise_alarm(comparisons[0], settings)


def _compare(what: str, reference_uri: str, current_uri: str, settings: MonitorSettings) -> dict[str, Any]:
    """A comparison as ``drift.json`` has it; with ``not_compared`` in place of ``report`` where none could be made."""
    comparison: dict[str, Any] = {"what": what, "reference": reference_uri, "current": current_uri}
    if not reference_uri:
        return comparison | {"not_compared": "No blessed model was trained on other data yet."}
    try:
        reference = sources.read_examples(reference_uri)
        report = drift.compare(reference, _read_current(what, current_uri, reference_uri), settings)
    except (drift.NotComparable, sources.UnreadableSample, AudioSpecMismatch) as error:
        _LOG.warning("cannot compare %s: %s", what, error)
        return comparison | {"not_compared": str(error)}
    if report.drifted:
        _LOG.warning("%s drifted: %s", what, " ".join(report.reasons))
    return comparison | {"report": report.to_dict()}


def _read_current(what: str, uri: str, reference_uri: str) -> drift.Sample:
    spec = sources.spec_of_examples(reference_uri)
    if what == REQUESTS:
        return sources.read_request_log(uri, spec=spec)
    spec.require_same(sources.spec_of_examples(uri).fingerprint, whose=uri)
    return sources.read_examples(uri)


def _raise_alarm(comparison: dict[str, Any], settings: MonitorSettings) -> None:
    report = comparison.get("report")
    if not report:
        return
    stops = {"never": False, "labels": report["labels_suspect"], "any": report["drifted"]}
    if stops[settings.stop_on]:
        raise DriftAlarm(
            f"The new data at {comparison['current']} drifted from those of {comparison['reference']}, and "
            f"drift.stop_on is {settings.stop_on!r}; the run stops before anything is trained on them:\n  "
            + "\n  ".join(report["reasons"])
            + "\nMend the recordings or their labels; or, if they are right, set drift.stop_on=never."
        )
