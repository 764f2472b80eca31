"""Validation by TFDV with the curated schema: drift and skew comparators, and environments.

:mod:`modules.drift.comparison` measures differences beyond chance, in the features of the
sound alone. The schema's comparators cover the other columns, with fixed bounds for samples of a certain size.
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
"""In either sample. Jensen-Shannon grows on small ones; the schema's thresholds were set at this size."""

SERVING = "SERVING"


class Difference(NamedTuple):
    """Measurement of a comparator of the schema.

    Attributes:
        comparator: ``drift`` or ``skew``.
        jensen_shannon: 0 to 1.
    """

    feature: str
    comparator: str
    jensen_shannon: float
    threshold: float

    @property
    def exceeded(self) -> bool:
        """True if the divergence is over the threshold."""
        return self.jensen_shannon > self.threshold

    @property
    def text(self) -> str:
        """The difference as a sentence."""
        return (
            f"{self.feature} has a Jensen-Shannon divergence of {self.jensen_shannon:.2f}; the {self.comparator} "
            f"comparator of the schema allows {self.threshold:g}."
        )


def drift(reference: Clips, current: Clips, schema: schema_pb2.Schema) -> list[Difference]:
    """Compare new recordings with earlier ones by the ``drift_comparator`` of each feature."""
    if _too_few(reference, current):
        return []
    found = tfdv.validate_statistics(
        _statistics(current), _of_both(schema, current, reference), previous_statistics=_statistics(reference)
    )
    return list(_measured(found))


def skew(training: Clips, requests: Clips, schema: schema_pb2.Schema) -> list[Difference]:
    """Compare requests with the recordings of the training by the ``skew_comparator`` of each feature."""
    if _too_few(training, requests):
        return []
    found = tfdv.validate_statistics(
        _statistics(training), _of_both(schema, training, requests), serving_statistics=_statistics(requests)
    )
    return list(_measured(found))


def serving_anomalies(requests: Clips, schema: schema_pb2.Schema) -> list[str]:
    """Return the anomalies of the requests under the schema of the serving environment, which has no label."""
    whole = schema_pb2.Schema()
    whole.CopyFrom(schema)
    for feature in whole.feature:
        if feature.name == examples.FEATURES:
            feature.ClearField("shape")  # means over a clip's frames are not as many as the features
    found = tfdv.validate_statistics(_statistics(requests), whole, environment=SERVING)
    return [f"{name}: {info.description}" for name, info in sorted(found.anomaly_info.items())]


def _too_few(*samples: Clips) -> bool:
    return any(clips.sample.clips < MIN_CLIPS for clips in samples)


def _of_both(schema: schema_pb2.Schema, one: Clips, other: Clips) -> schema_pb2.Schema:
    """Return the comparators of the features of both. ExampleValidator checks domains and shapes."""
    known = _columns(one).keys() & _columns(other).keys()
    kept = (
        schema_pb2.Feature(
            name=feature.name,
            type=feature.type,
            drift_comparator=feature.drift_comparator if feature.HasField("drift_comparator") else None,
            skew_comparator=feature.skew_comparator if feature.HasField("skew_comparator") else None,
        )
        for feature in schema.feature
        if feature.name in known
    )
    return schema_pb2.Schema(feature=kept)


def _measured(found: anomalies_pb2.Anomalies) -> Iterable[Difference]:
    for info in found.drift_skew_info:
        (feature,) = info.path.step
        for comparator, measurements in (("drift", info.drift_measurements), ("skew", info.skew_measurements)):
            for one in measurements:
                yield Difference(feature, comparator, one.value, one.threshold)


def _statistics(clips: Clips) -> statistics_pb2.DatasetFeatureStatisticsList:
    """In memory, of the recordings themselves: StatisticsGen counts the augmented copies, too."""
    columns = _columns(clips)
    batch = pa.RecordBatch.from_arrays([_lists(values) for values in columns.values()], list(columns))
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())


def _columns(clips: Clips) -> Mapping[str, np.ndarray]:
    return {examples.FEATURES: clips.sample.values.astype(np.float32), **clips.numbers}


def _lists(values: np.ndarray) -> pa.ListArray:
    """Return a column in the format of TFDV: a list of values for each clip."""
    width = int(np.prod(values.shape[1:], dtype=int))
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1) * width, pa.int32()), pa.array(values.ravel()))
