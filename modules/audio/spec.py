"""The one description of how sound becomes features.

Its fingerprint travels with the examples, the model's assets and the client, so that two parts that
disagree on it stop with an error instead of predicting nonsense.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from modules.common.digest import digest
from modules.common.settings import Settings

FeatureFamily = Literal["utterance", "logmel"]

CHROMA_BINS = 12


class AudioSpecMismatch(ValueError):
    """Two parts of the system were made for different audio specs."""


class AudioSpec(Settings):
    """How sound becomes features."""

    sample_rate_hz: int = Field(
        22_050, ge=1_000, le=192_000, description="Rate in Hz that every recording is resampled to."
    )
    window_offset_sec: float = Field(
        0.5,
        ge=0,
        le=600,
        description="Start of the analysis window in seconds; earlier in a recording that would otherwise end inside "
        "the window, so that short recordings are used whole.",
    )
    window_sec: float = Field(3.5, gt=0, le=60, description="Length of the analysis window in seconds.")
    n_fft: int = Field(2048, ge=16, le=65_536, description="Samples in one Hann-windowed frame.")
    hop_samples: int = Field(512, ge=1, le=65_536, description="Samples between the centres of two frames.")
    mel_bands: int = Field(128, ge=1, le=512, description="Slaney mel bands between 0 Hz and half the sample rate.")
    mfcc_coefficients: int = Field(
        128, ge=1, le=512, description="Cosine coefficients kept of the log-mel spectrum; at most `mel_bands`."
    )
    feature_family: FeatureFamily = Field(
        "logmel",
        description="`logmel`: the log-mel spectrogram. `utterance`: means over time of zero-crossing rate, RMS, "
        "chroma, mel power and MFCC.",
    )

    @model_validator(mode="after")
    def _limit_coefficients(self) -> Self:
        if self.mfcc_coefficients > self.mel_bands:
            raise ValueError(
                f"mfcc_coefficients is {self.mfcc_coefficients}; allowed: at most mel_bands, {self.mel_bands}"
            )
        return self

    @property
    def window_samples(self) -> int:
        return round(self.window_sec * self.sample_rate_hz)

    @property
    def window_offset_samples(self) -> int:
        return round(self.window_offset_sec * self.sample_rate_hz)

    @property
    def window_frames(self) -> int:
        """Frames of a full window, the first centred on its first sample."""
        return 1 + self.window_samples // self.hop_samples

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: ``(frames, mel_bands)``, or ``(270,)`` of the utterance at the defaults."""
        if self.feature_family == "utterance":
            return (2 + CHROMA_BINS + self.mel_bands + self.mfcc_coefficients,)
        return (self.window_frames, self.mel_bands)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ when any attribute does."""
        return digest(self.model_dump(mode="json"))

    def require_same(self, fingerprint: str, *, whose: str) -> None:
        """Raises :class:`AudioSpecMismatch` unless ``fingerprint`` is this spec's own."""
        if fingerprint != self.fingerprint:
            raise AudioSpecMismatch(
                f"{whose} was made with audio spec {fingerprint}, this is {self.fingerprint} ({self.to_json()}). "
                "Ingest and train again with one spec, or use the model that belongs to it."
            )
