"""The one description of how sound becomes features.

Its fingerprint travels with the examples, the model's assets and the client, so that two parts that
disagree on it stop with an error instead of predicting nonsense.
"""

import json
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modules.audio.encoder.catalog import ENCODERS
from modules.common.digest import digest
from modules.common.errors import SerError
from modules.common.settings import Settings

FeatureFamily = Literal["utterance", "logmel", "encoder"]
EncoderName = Literal["whisper-tiny.en", "whisper-base"]

CHROMA_BINS = 12

ENCODER_SAMPLE_RATE_HZ = 16_000

ENCODER_STRIDE_SAMPLES = 320
"""Samples under one frame of Whisper's encoder, 20 ms."""


class AudioSpecMismatch(SerError, ValueError):
    """Two parts of the system were made for different audio specs."""

    code = "audio.spec_mismatch"


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
        "chroma, mel power and MFCC. `encoder`: outputs of a frozen speech encoder over time; needs a `sample_rate_hz` "
        "of 16000.",
    )
    encoder: EncoderName = Field("whisper-tiny.en", description="Frozen encoder of the family `encoder`.")
    encoder_blocks: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (2,),
        min_length=1,
        description="Blocks of the encoder whose outputs are joined, counted from 1; 0 is the input of the first.",
    )
    encoder_pool_frames: int = Field(
        4,
        ge=1,
        le=50,
        description="Frames of the encoder, of 20 ms each, that are averaged into one. 1 leaves them as they are, "
        "those beyond the clip's end included.",
    )

    @model_validator(mode="after")
    def _limit_coefficients(self) -> Self:
        if self.mfcc_coefficients > self.mel_bands:
            raise ValueError(
                f"mfcc_coefficients is {self.mfcc_coefficients}; allowed: at most mel_bands, {self.mel_bands}"
            )
        return self

    @model_validator(mode="after")
    def _require_encoder(self) -> Self:
        if self.feature_family != "encoder":
            return self
        if self.sample_rate_hz != ENCODER_SAMPLE_RATE_HZ:
            raise ValueError(
                f"sample_rate_hz is {self.sample_rate_hz} and feature_family encoder; allowed: {ENCODER_SAMPLE_RATE_HZ}"
            )
        blocks = ENCODERS[self.encoder].blocks
        if max(self.encoder_blocks) > blocks:
            raise ValueError(f"encoder_blocks is {list(self.encoder_blocks)}; {self.encoder} has 0 to {blocks}")
        return self

    @property
    def window_samples(self) -> int:
        """Length of the window in samples."""
        return round(self.window_sec * self.sample_rate_hz)

    @property
    def window_offset_samples(self) -> int:
        """Offset of the window in samples."""
        return round(self.window_offset_sec * self.sample_rate_hz)

    @property
    def window_frames(self) -> int:
        """Frames of a full window: of the spectrogram the first is centred on the first sample."""
        if self.feature_family == "encoder":
            return self.window_samples // self.encoder_frame_samples
        return 1 + self.window_samples // self.hop_samples

    @property
    def encoder_frame_samples(self) -> int:
        """Samples under one frame of encoder features."""
        return ENCODER_STRIDE_SAMPLES * self.encoder_pool_frames

    @property
    def has_frames(self) -> bool:
        """Whether the features follow the recording in time."""
        return self.feature_family != "utterance"

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: ``(frames, channels)``, or ``(270,)`` of the utterance at the defaults."""
        if self.feature_family == "utterance":
            return (2 + CHROMA_BINS + self.mel_bands + self.mfcc_coefficients,)
        if self.feature_family == "encoder":
            return (self.window_frames, len(self.encoder_blocks) * ENCODERS[self.encoder].width)
        return (self.window_frames, self.mel_bands)

    def to_json(self) -> str:
        """Return canonical JSON: equal specs give equal text. Only the family `encoder` names its encoder."""
        values = self.model_dump(mode="json")
        if self.feature_family != "encoder":
            values = {name: value for name, value in values.items() if not name.startswith("encoder")}
        return json.dumps(values, sort_keys=True)

    def describe(self) -> dict[str, float | int | str]:
        """Return the values of :meth:`to_json` for a report, lists as text."""
        values = json.loads(self.to_json())
        return {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ when any attribute or the weights of the encoder do."""
        values = json.loads(self.to_json())
        if self.feature_family == "encoder":
            values["weights"] = ENCODERS[self.encoder].arrays_sha256
        return digest(values)

    def require_same(self, fingerprint: str, *, whose: str) -> None:
        """Raise :class:`AudioSpecMismatch` unless ``fingerprint`` is that of this spec."""
        if fingerprint != self.fingerprint:
            raise AudioSpecMismatch(
                f"{whose} was made with audio spec {fingerprint}, this is {self.fingerprint} ({self.to_json()}). "
                "Ingest and train again with one spec, or use the model that belongs to it."
            )
