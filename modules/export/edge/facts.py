"""Facts about a converted model, stored in its file."""

import json
from typing import NamedTuple, Self

from modules.export.contract import Contract


class Facts(NamedTuple):
    """What an application needs to use the file. Also the names of the keys in its metadata.

    Attributes:
        labels: Names of the probabilities, in order.
        sample_rate_hz: Sample rate of the input in Hz.
        window_samples: Samples of the input.
        min_confidence: Probability below which a server answers ``not_sure``; 0 if it always names an emotion.
        model_version: Number of the pushed version.
        model_fingerprint: Fingerprint of the pushed SavedModel.
        audio_spec: Fingerprint of the audio spec.
        quantization: ``int8`` if the weights of the network are 8-bit integers, else ``none``.
    """

    labels: tuple[str, ...]
    sample_rate_hz: int
    window_samples: int
    min_confidence: float
    model_version: int
    model_fingerprint: str
    audio_spec: str
    quantization: str

    @classmethod
    def of(cls, contract: Contract, *, version: int, fingerprint: str, quantization: str) -> Self:
        """Return the facts of a pushed version.

        Args:
            contract: Contract of the SavedModel.
            version: Number of the version.
            fingerprint: Fingerprint of the SavedModel.
            quantization: ``int8`` or ``none``.
        """
        spec, limits = contract.audio_spec, contract.limits
        return cls(
            labels=contract.labels,
            sample_rate_hz=spec.sample_rate_hz,
            window_samples=spec.window_samples,
            min_confidence=limits.min_confidence,
            model_version=version,
            model_fingerprint=fingerprint,
            audio_spec=spec.fingerprint,
            quantization=quantization,
        )

    def texts(self) -> dict[str, str]:
        """Return each fact as JSON."""
        return {name: json.dumps(value) for name, value in self._asdict().items()}

    @classmethod
    def from_texts(cls, texts: dict[str, str]) -> Self:
        """Return the facts of :meth:`texts`, whatever else the metadata hold."""
        values = {name: json.loads(texts[name]) for name in cls._fields}
        return cls(**{**values, "labels": tuple(values["labels"])})
