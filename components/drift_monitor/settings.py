"""Settings of the DriftMonitor. Imports nothing heavy: the configuration is made of it."""

from typing import Literal

from pydantic import Field

from modules.drift.settings import DriftSettings


class MonitorSettings(DriftSettings):
    """What is compared with the data that the blessed baseline was trained on, and what follows from drift."""

    enabled: bool = Field(False, description="Whether the pipeline has a DriftMonitor.")
    stop_on: Literal["never", "labels", "any"] = Field(
        "labels",
        description="When the run stops before anything is trained: never; `labels`, when the labels drifted and the "
        "recordings did not; or `any` drift. The report holds every drift in each case.",
    )
    reference: str = Field("", description="Examples of an earlier run to compare with, in place of the baseline's.")
    request_log: str = Field("", description="Folder of the server's request log; compared too where it is set.")
