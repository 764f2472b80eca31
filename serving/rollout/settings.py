"""Settings of a rollout, importable without heavy libraries for the command line."""

from pydantic import Field

from modules.common.settings import Settings


class WatchSettings(Settings):
    """Conditions for promoting a canary."""

    min_requests: int = Field(
        100, ge=1, description="Requests that each version must have answered before latency and predictions count."
    )
    min_recordings: int = Field(
        20, ge=1, description="Different recordings that both must have answered before predictions are compared."
    )
    max_error_rate: float = Field(
        0.01, ge=0, le=1, description="Share of failed requests above that of the stable version."
    )
    max_latency_ratio: float = Field(
        1.5, gt=0, description="Ratio, canary to stable version, of the median and the 99th percentile of a request."
    )
    max_prediction_drift: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Jensen-Shannon divergence to base 2, 0 (the same) to 1. The default lets a retraining pass and "
        "stops broken models, as benchmarks/prediction_drift.py measures them (docs/benchmarks/rollout.md).",
    )
