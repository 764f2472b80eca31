"""Metrics of runs and served versions, which a server's own metrics lack, for Prometheus."""

import datetime
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modules.common.errors import SerError
from modules.reporting.runs import read_summary
from modules.reporting.summary import RunSummary
from modules.reporting.write import SUMMARY_FILE

_TIMEOUT_SEC = 5.0
# 2001: versions are the seconds since 1970 of their push, and smaller ones were numbered by hand.
_FIRST_PUSH_SEC = 1_000_000_000


class MonitorError(SerError):
    """The metrics cannot be exported."""

    code = "monitor.not_started"


class Exporter(Collector):
    """Collector that reads the last run's summary and the server's versions at each scrape.

    Args:
        root: Folder of the output of runs.
        rest_url: URL of the server's REST interface.
        model_name: Name of the served model.

    Raises:
        MonitorError: The URL cannot be used.
    """

    def __init__(self, root: Path, rest_url: str, model_name: str) -> None:
        _require_url(rest_url)
        self._summary_file = root / SUMMARY_FILE
        self._status_url = f"{rest_url.rstrip('/')}/v1/models/{model_name}"
        self._model_name = model_name

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics; those of the run are left out when there is no summary that can be read."""
        summary = read_summary(self._summary_file)
        yield _gauge("ser_run_summary_readable", "Whether the last run's summary could be read.", summary is not None)
        if summary:
            yield from _of_run(summary)
        yield from self._of_versions()

    def _of_versions(self) -> Iterator[GaugeMetricFamily]:
        ready = self._ready_versions()
        yield self._of_model("versions_ready", "Versions that answer; 0 when the server does not respond.", len(ready))
        pushed_sec = max(ready, default=0)
        if pushed_sec >= _FIRST_PUSH_SEC:
            yield self._of_model("pushed_timestamp_seconds", "Push of the newest version that answers.", pushed_sec)

    def _of_model(self, name: str, help_text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"ser_model_{name}", help_text, labels=["model_name"])
        family.add_metric([self._model_name], value)
        return family

    def _ready_versions(self) -> list[int]:
        try:
            answer = httpx.get(self._status_url, timeout=_TIMEOUT_SEC)
            statuses: list[dict[str, Any]] = answer.json()["model_version_status"] if answer.is_success else []
        except (httpx.HTTPError, ValueError, KeyError):
            return []
        return [int(status["version"]) for status in statuses if status["state"] == "AVAILABLE"]


def export(exporter: Exporter, *, host: str, port: int) -> threading.Thread:
    """Serve the metrics at ``/metrics`` in a thread, and return the thread.

    Args:
        exporter: Collector of the metrics.
        host: Interface to listen on.
        port: Port to listen on.

    Raises:
        MonitorError: The port is taken, or the interface does not exist.
    """
    registry = CollectorRegistry()
    registry.register(exporter)
    try:
        _, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise MonitorError(
            f"cannot listen on {host}, port {port}: {error}; choose another with --host and --port"
        ) from error
    return thread


def _require_url(text: str) -> None:
    try:
        url = httpx.URL(text)
        usable = url.scheme in ("http", "https") and bool(url.host) and (url.port is None or 0 < url.port < 65_536)
    except (httpx.InvalidURL, ValueError):  # ValueError: a text that is not UTF-8
        usable = False
    if not usable:
        raise MonitorError(f"{text!r} is not the URL of a REST interface; write it as http://HOST:PORT")


def _of_run(summary: RunSummary) -> Iterator[GaugeMetricFamily]:
    ended = summary.run.started + datetime.timedelta(seconds=summary.run.seconds or 0)
    yield _gauge("ser_run_end_timestamp_seconds", "End of the last run.", ended.timestamp())
    yield _gauge("ser_run_failed", "Whether the last run failed.", summary.run.status == "failed")
    yield _gauge("ser_run_drifted", "Whether the last run found drift.", any(drift.drifted for drift in summary.drift))
    if summary.verdict:
        yield _gauge("ser_run_rejected", "Whether the gate rejected the last run's model.", not summary.verdict.blessed)
    uar = summary.evaluation.metric("uar") if summary.evaluation else None
    if uar and uar.value is not None:
        yield _gauge("ser_run_test_uar", "UAR on the test split of the last run.", uar.value)


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=float(value))
