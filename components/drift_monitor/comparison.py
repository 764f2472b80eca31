"""Drift by two criteria: differences beyond chance, and those that the curated schema does not allow.

The DriftMonitor and ``ser drift`` share this module, so that their results agree.
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
    """Two samples, compared.

    Attributes:
        report: Differences of the features, with permutation tests.
        differences: Measurements of the comparators of the schema that apply.
        remarks: Further findings that are not drift.
    """

    report: DriftReport
    differences: tuple[comparators.Difference, ...]
    remarks: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether the data drifted by either criterion."""
        return self.report.drifted or any(each.exceeded for each in self.differences)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons for the drift, as sentences, and the remarks."""
        return (*self.report.reasons, *(each.text for each in self.differences if each.exceeded), *self.remarks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the report's, with this verdict and these reasons."""
        return self.report.to_dict() | {
            "drifted": self.drifted,
            "reasons": list(self.reasons),
            "comparators": [each._asdict() for each in self.differences],
        }


def compare(reference: Clips, current: Clips, schema: schema_pb2.Schema, settings: DriftSettings) -> Comparison:
    """Compare new clips with the reference, both of one audio spec.

    Requests and recordings are compared by the skew comparators of the schema; requests in ``current`` are also
    checked against its serving environment. All else is compared by its drift comparators.

    Raises:
        NotComparable: See :func:`modules.drift.comparison.compare`.
    """
    report = drift.compare(reference.sample, current.sample, settings)
    if reference.served == current.served:
        return Comparison(report=report, differences=tuple(comparators.drift(reference, current, schema)))
    training, requests = (current, reference) if reference.served else (reference, current)
    return Comparison(
        report=report,
        differences=tuple(comparators.skew(training, requests, schema)),
        remarks=tuple(comparators.serving_anomalies(current, schema)) if current.served else (),
    )
