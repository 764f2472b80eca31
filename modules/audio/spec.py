"""The one description of how sound becomes features.

Its fingerprint travels with the examples, the model's assets and the client, so that two parts that
disagree on it stop with an error instead of predicting nonsense.
"""

import dataclasses
import hashlib
import json
from typing import Literal

FeatureFamily = Literal["utterance", "logmel"]

CHROMA_BINS = 12


class AudioSpecMismatch(ValueError):
    """Two parts of the system were made for different audio specs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioSpec:
    """How sound becomes features.

    Attributes:
        sample_rate_hz: Rate that every recording is resampled to.
        window_offset_sec: Where the analysed window starts. It starts earlier in a recording that would
            otherwise end inside the window, so that short recordings are used whole.
        window_sec: Length of the analysed window.
        n_fft: Samples in one Hann-windowed frame.
        hop_samples: Samples between the centres of two frames.
        mel_bands: Slaney mel bands between 0 Hz and half the sample rate.
        mfcc_coefficients: Cosine coefficients kept of the log-mel spectrum.
        feature_family: ``utterance``: means over time of zero-crossing rate, RMS, chroma, mel power and
            MFCC; ``logmel``: the log-mel spectrogram itself.
    """

    sample_rate_hz: int = 22_050
    window_offset_sec: float = 0.6
    window_sec: float = 2.5
    n_fft: int = 2048
    hop_samples: int = 512
    mel_bands: int = 128
    mfcc_coefficients: int = 128
    feature_family: FeatureFamily = "utterance"

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "n_fft", "hop_samples", "mel_bands", "mfcc_coefficients", "window_sec"):
            if getattr(self, name) <= 0:
                raise ValueError(f"audio.{name} is {getattr(self, name)}; it must be above 0")
        if self.window_offset_sec < 0:
            raise ValueError(f"audio.window_offset_sec is {self.window_offset_sec}; it must be 0 or above")
        if self.mfcc_coefficients > self.mel_bands:
            raise ValueError(
                f"audio.mfcc_coefficients is {self.mfcc_coefficients}; it can be at most audio.mel_bands, "
                f"{self.mel_bands}"
            )
        if self.feature_family not in ("utterance", "logmel"):
            raise ValueError(f"audio.feature_family is {self.feature_family!r}; it must be 'utterance' or 'logmel'")

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
        """Shape of one clip's features: ``(270,)`` or ``(frames, mel_bands)`` at the defaults."""
        if self.feature_family == "utterance":
            return (2 + CHROMA_BINS + self.mel_bands + self.mfcc_coefficients,)
        return (self.window_frames, self.mel_bands)

    def to_json(self) -> str:
        """Canonical text: equal specs give equal text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "AudioSpec":
        return cls(**json.loads(text))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ when any attribute does."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def require_same(self, fingerprint: str, *, whose: str) -> None:
        """Raises :class:`AudioSpecMismatch` unless ``fingerprint`` is this spec's own."""
        if fingerprint != self.fingerprint:
            raise AudioSpecMismatch(
                f"{whose} was made with audio spec {fingerprint}, this is {self.fingerprint} ({self.to_json()}). "
                "Ingest and train again with one spec, or use the model that belongs to it."
            )
