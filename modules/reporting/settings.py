"""Settings of a run's report."""

from pydantic import Field

from modules.common.settings import Settings


class ReportSettings(Settings):
    """The report of a local run."""

    audio_clips: int = Field(
        12,
        ge=0,
        le=50,
        description="Wrongly predicted recordings whose first 10 s are part of `report.html`, so that they can be "
        "played; 0 keeps voices out of the file.",
    )
