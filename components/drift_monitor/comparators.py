"""TFDV's comparisons by the curated schema: drift and skew comparators, and environments.

:mod:`modules.drift.comparison` tests features of the sound alone, against permutations. The comparators of the schema
cover the other columns, with fixed thresholds for samples of at least :data:`MIN_CLIPS`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components.drift_monitor.sources import Clips
from modules.data import examples

MIN_CLIPS = 100
"""Least size of each sample: Jensen-Shannon grows with smaller ones, and the thresholds were set at this size."""

SERVING = "SERVING"


class Difference(NamedTuple):
    """Measurement of a comparator of the schema.

    Attributes:
        feature: Name of the feature.
        comparator: ``drift`` or ``skew``.
        jensen_shannon: Jensen-Shannon divergence, 0 to 1.
        threshold: Largest divergence that the schema allows.
    """

    feature: str
    comparator: str
    jensen_shannon: float
    threshold: float

    @property
    def exceeded(self) -> bool:
        """Whether the divergence is above the threshold."""
        return self.jensen_shannon > self.threshold

    @property
    def text(self) -> str:
        """Sentence for reports."""
        return (
            f"{self.feature} has a Jensen-Shannon divergence of {self.jensen_shannon:.2f}; the {self.comparator} "
            f"comparator of the schema allows {self.threshold:g}."
        )


def drift(reference: Clips, current: Clips, schema: schema_pb2.Schema) -> list[Difference]:
    """Compare new recordings with earlier ones by the ``drift_comparator`` of each feature.

    Args:
        reference: Earlier recordings.
        current: New recordings.
        schema: The curated schema.

    Returns:
        Measurements; empty if either sample is smaller than :data:`MIN_CLIPS`.
    """
    if _too_few(reference, current):
        return []
    anomalies = tfdv.validate_statistics(
        _statistics(current),
        _common_comparators(schema, current, reference),
        previous_statistics=_statistics(reference),
    )
    return list(_differences(anomalies))


def skew(training: Clips, requests: Clips, schema: schema_pb2.Schema) -> list[Difference]:
    """Compare requests with training data by the ``skew_comparator`` of each feature.

    Args:
        training: Recordings that a model was trained on.
        requests: Requests to a server.
        schema: The curated schema.

    Returns:
        Measurements; empty if either sample is smaller than :data:`MIN_CLIPS`.
    """
    if _too_few(training, requests):
        return []
    anomalies = tfdv.validate_statistics(
        _statistics(training), _common_comparators(schema, training, requests), serving_statistics=_statistics(requests)
    )
    return list(_differences(anomalies))


def serving_anomalies(requests: Clips, schema: schema_pb2.Schema) -> list[str]:
    """Return the requests' anomalies by the schema's environment ``SERVING``, in which labels are not required.

    Args:
        requests: Requests to a server.
        schema: The curated schema.
    """
    whole = schema_pb2.Schema()
    whole.CopyFrom(schema)
    for feature in whole.feature:
        if feature.name == examples.FEATURES:
            feature.ClearField("shape")  # the sample has means over frames, which have another shape
    anomalies = tfdv.validate_statistics(_statistics(requests), whole, environment=SERVING)
    return [f"{name}: {info.description}" for name, info in sorted(anomalies.anomaly_info.items())]


def _too_few(*samples: Clips) -> bool:
    return any(clips.sample.clips < MIN_CLIPS for clips in samples)


def _common_comparators(schema: schema_pb2.Schema, one: Clips, other: Clips) -> schema_pb2.Schema:
    """Return the comparators of columns that both samples have, without domains and shapes."""
    common = _columns(one).keys() & _columns(other).keys()
    kept = (
        schema_pb2.Feature(
            name=feature.name,
            type=feature.type,
            drift_comparator=feature.drift_comparator if feature.HasField("drift_comparator") else None,
            skew_comparator=feature.skew_comparator if feature.HasField("skew_comparator") else None,
        )
        for feature in schema.feature
        if feature.name in common
    )
    return schema_pb2.Schema(feature=kept)


def _differences(anomalies: anomalies_pb2.Anomalies) -> Iterable[Difference]:
    for info in anomalies.drift_skew_info:
        (feature,) = info.path.step
        for comparator, measurements in (("drift", info.drift_measurements), ("skew", info.skew_measurements)):
            for one in measurements:
                yield Difference(feature, comparator, one.value, one.threshold)


def _statistics(clips: Clips) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Return statistics of the recordings alone; those of StatisticsGen include augmented copies."""
    columns = _columns(clips)
    batch = pa.RecordBatch.from_arrays([_lists(values) for values in columns.values()], list(columns))
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())


def _columns(clips: Clips) -> Mapping[str, np.ndarray]:
    return {examples.FEATURES: clips.sample.values.astype(np.float32), **clips.numbers}


def _lists(values: np.ndarray) -> pa.ListArray:
    """Return a column in TFDV's form, a list of values for each clip."""
    width = int(np.prod(values.shape[1:], dtype=int))
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1) * width, pa.int32()), pa.array(values.ravel()))
