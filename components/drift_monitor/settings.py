"""Settings of the DriftMonitor. It imports nothing slow, since every command reads the configuration."""

from typing import Literal

from pydantic import Field

from components.drift_monitor.endpoint_log import DEFAULT_PART
from modules.drift.settings import DriftSettings


class MonitorSettings(DriftSettings):
    """Comparison with the training data of the blessed baseline, and the consequences of drift."""

    enabled: bool = Field(False, description="Whether the pipeline has a DriftMonitor.")
    stop_on: Literal["never", "labels", "any"] = Field(
        "labels",
        description="When the run stops before anything is trained: never; `labels`, when the labels drifted and the "
        "recordings did not; or `any` drift. The report holds every drift in each case.",
    )
    reference: str = Field(
        "",
        description="Examples of an earlier run to compare with, or pushed models (a folder of versions, a version, or "
        "vertex://PROJECT/REGION/ENDPOINT) whose training examples are; in place of the baseline's.",
    )
    request_log: str = Field(
        "",
        description="Folder of the server's request log, or `bq://PROJECT.DATASET.TABLE` of a Vertex AI endpoint's; "
        "compared too where it is set.",
    )
    request_log_days: float = Field(
        DEFAULT_PART.days, gt=0, description="Days of requests that are read from a BigQuery table."
    )
    request_log_rows: int = Field(
        DEFAULT_PART.rows, ge=1, description="Most rows that are read from a BigQuery table, the newest first."
    )
