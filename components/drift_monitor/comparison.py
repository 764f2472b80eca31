"""Decision on drift from two tests: permutations of speakers, and the comparators of the curated schema.

The DriftMonitor and ``ser drift`` share it and so agree.
"""

import dataclasses
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from components.drift_monitor import comparators
from components.drift_monitor.sources import Clips
from modules.drift import comparison as drift
from modules.drift.report import DriftReport
from modules.drift.settings import DriftSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Result of the comparison of two samples.

    Attributes:
        report: Result of the permutation tests.
        differences: Measurements of the applicable comparators of the schema.
        remarks: Sentences for the report that do not count as drift.
    """

    report: DriftReport
    differences: tuple[comparators.Difference, ...]
    remarks: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether either test found drift."""
        return self.report.drifted or any(each.exceeded for each in self.differences)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences about each drift, and the remarks."""
        return (*self.report.reasons, *(each.text for each in self.differences if each.exceeded), *self.remarks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: those of the report, with this decision and these reasons."""
        return self.report.to_dict() | {
            "drifted": self.drifted,
            "reasons": list(self.reasons),
            "comparators": [each._asdict() for each in self.differences],
        }


def compare(reference: Clips, current: Clips, schema: schema_pb2.Schema, settings: DriftSettings) -> Comparison:
    """Compare new data with a reference of the same audio spec.

    Requests are compared with recordings by the schema's skew comparators and, if they are ``current``, checked by its
    environment ``SERVING``. Other pairs are compared by its drift comparators.

    Args:
        reference: Reference sample.
        current: New sample.
        schema: The curated schema.
        settings: Settings of the permutation tests.

    Returns:
        The comparison.

    Raises:
        NotComparable: See :func:`modules.drift.comparison.compare`.
    """
    report = drift.compare(reference.sample, current.sample, settings)
    remarks = (*reference.remarks, *current.remarks)
    if reference.served == current.served:
        differences = tuple(comparators.drift(reference, current, schema))
        return Comparison(report=report, differences=differences, remarks=remarks)
    training, requests = (current, reference) if reference.served else (reference, current)
    return Comparison(
        report=report,
        differences=tuple(comparators.skew(training, requests, schema)),
        remarks=(*remarks, *(comparators.serving_anomalies(current, schema) if current.served else ())),
    )
