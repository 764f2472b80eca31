"""Metrics under TF Serving's names, so that one dashboard shows both servers."""

import contextlib
import time
from collections.abc import Iterator

import grpc
from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, generate_latest

from serving.server.errors import StatusError

# TF Serving's own buckets: 10 µs to about 20 minutes.
_LATENCY_BUCKETS_US = [10 * 1.8**power for power in range(33)]
_SIZE_BUCKETS = [2**power for power in range(11)]


class Metrics:
    """Metrics of one server.

    The counters of TF Serving are gauges here that only increase: prometheus_client appends ``_total`` to the name of
    every counter, and TF Serving does not.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # TF Serving has none
        self._registry = CollectorRegistry()
        self.request_count = self._count("request_count", "Requests.", ["model_name", "status"])
        self.request_latency = self._latency(
            "request_latency", "Time of a request, in microseconds.", ["model_name", "API", "entrypoint"]
        )
        self.runtime_latency = self._latency(
            "runtime_latency", "Time of a run of the graph, in microseconds.", ["model_name", "API", "runtime"]
        )
        self.queuing_latency = self._latency(
            "batching_session:queuing_latency", "Time in the queue, in microseconds.", ["model_name"]
        )
        self.batch_size = Histogram(
            ":tensorflow:serving:batching_session:processed_batch_size",
            "Items that ran together.",
            ["model_name"],
            registry=self._registry,
            buckets=_SIZE_BUCKETS,
        )
        self.request_log_count = self._count("request_log_count", "Logged requests.", ["model_name", "status"])
        self.load_attempt_count = Gauge(
            ":tensorflow:cc:saved_model:load_attempt_count",
            "Attempts to load a version.",
            ["model_path", "status"],
            registry=self._registry,
        )
        self.load_latency = Gauge(
            ":tensorflow:cc:saved_model:load_latency",
            "Time to load a version, in microseconds.",
            ["model_path"],
            registry=self._registry,
        )

    @contextlib.contextmanager
    def request(self, model_name: str, entrypoint: str) -> Iterator[None]:
        """Count and time a predict request.

        Args:
            model_name: Name of the model.
            entrypoint: ``GRPC`` or ``REST``.
        """
        started = time.perf_counter()
        status = grpc.StatusCode.CANCELLED  # unless the request ends otherwise
        try:
            yield
            status = grpc.StatusCode.OK
        except StatusError as error:
            status = error.status
            raise
        finally:
            elapsed_us = (time.perf_counter() - started) * 1e6
            self.request_count.labels(model_name, status.name).inc()
            self.request_latency.labels(model_name, "Predict", entrypoint).observe(elapsed_us)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def _count(self, name: str, help_text: str, labels: list[str]) -> Gauge:
        return Gauge(f":tensorflow:serving:{name}", help_text, labels, registry=self._registry)

    def _latency(self, name: str, help_text: str, labels: list[str]) -> Histogram:
        return Histogram(
            f":tensorflow:serving:{name}", help_text, labels, registry=self._registry, buckets=_LATENCY_BUCKETS_US
        )
