"""What the DriftMonitor is told. Imports nothing heavy: the configuration is made of it."""

import dataclasses
import json
from typing import Literal

from modules.drift.settings import DriftSettings

STOP_ON = ("never", "labels", "any")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonitorSettings(DriftSettings):
    """What is compared with the data that the blessed baseline was trained on, and what follows from drift.

    Attributes:
        enabled: Whether the pipeline has a DriftMonitor.
        stop_on: When the run stops before anything is trained: never; ``labels``, where the recordings are as they
            were but their labels are not; or ``any`` drift. The report tells of every drift all the same.
        reference: Examples of an earlier run to compare with, in place of the baseline's.
        request_log: Folder of the server's request log, compared too where it is named.
    """

    enabled: bool = False
    stop_on: Literal["never", "labels", "any"] = "labels"
    reference: str = ""
    request_log: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop_on not in STOP_ON:
            raise ValueError(f"drift.stop_on is {self.stop_on!r}; it must be one of {', '.join(STOP_ON)}")

    def to_json(self) -> str:
        """Canonical text: equal settings give equal text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "MonitorSettings":
        return cls(**json.loads(text))
