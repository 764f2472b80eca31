"""Outcome of a run, from the ``summary.json`` that it wrote."""

import dataclasses
import json
from typing import Any

SUMMARY_FILE = "summary.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a finished run.

    Attributes:
        blessed: Whether the gate blessed the model.
        reasons: Reasons of a rejection.
        uar: UAR on the test split.
        version: Pushed version; empty if none was pushed.
        report: Address of the report.
        examples: Address of the examples, the reference of the next run's comparison.
    """

    blessed: bool
    reasons: list[str]
    uar: float | None
    version: str
    report: str
    examples: str

    @property
    def lines(self) -> list[str]:
        """The outcome in text."""
        uar = "unknown" if self.uar is None else f"{100 * self.uar:.1f} %"
        pushed = f"version {self.version} was pushed" if self.version else "nothing was pushed"
        verdict = "blessed" if self.blessed else "rejected"
        return [f"the model was {verdict}, UAR {uar}, {pushed}", *self.reasons, f"report: {self.report}"]


def read(text: str, *, folder: str, examples: str) -> Outcome:
    """Return the outcome.

    Args:
        text: Content of ``summary.json``.
        folder: Address of its folder.
        examples: Address of the run's examples.
    """
    summary = json.loads(text)
    verdict = summary.get("verdict") or {}
    return Outcome(
        blessed=bool(verdict.get("blessed")),
        reasons=[] if verdict.get("blessed") else list(verdict.get("reasons", ())),
        uar=_uar(summary),
        version=(summary.get("pushed") or {}).get("version") or "",
        report=f"{folder}/report.html",
        examples=examples,
    )


def _uar(summary: dict[str, Any]) -> float | None:
    metrics = (summary.get("evaluation") or {}).get("metrics", ())
    return next((metric["value"] for metric in metrics if metric["name"] == "uar"), None)
