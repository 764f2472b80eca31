"""Codecs of the internet: Opus, MP3 and Vorbis, through libsndfile."""

import dataclasses
import io

import numpy as np

from modules.audio.augmentation.settings import AugmentationSettings

_RATE_HZ = 16_000  # wideband speech, ITU-T G.722; Opus has few rates

_FORMATS = {"OPUS": "OGG", "MPEG_LAYER_III": "MP3", "VORBIS": "OGG"}
CODECS = tuple(_FORMATS)
"""Subtypes of libsndfile."""

_COMPRESSIONS = {"OPUS": (0.9, 0.99), "MPEG_LAYER_III": (0.5, 0.99), "VORBIS": (0.5, 1.0)}
"""Ranges of libsndfile's compression: measured on speech, 23 to 8, 28 to 16 and 41 to 27 kbit/s."""


@dataclasses.dataclass(frozen=True)
class Codec:
    """Encoding and decoding at a low rate.

    Attributes:
        name: One of :data:`CODECS`.
        compression: Compression of libsndfile, 0 to 1, the most.
    """

    name: str
    compression: float

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Codec":
        """Draw the codec and its compression from ``rng``; ``settings`` are not used."""
        name = CODECS[rng.integers(len(CODECS))]
        return cls(name, rng.uniform(*_COMPRESSIONS[name]))

    def apply(self, samples: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
        """Apply the codec at 16 kHz; the result has the length of ``samples``, and no delay."""
        import soxr

        wideband = soxr.resample(samples, sample_rate_hz, _RATE_HZ)
        received = coded(wideband, _RATE_HZ, _FORMATS[self.name], self.name, self.compression)
        return of_length(soxr.resample(received, _RATE_HZ, sample_rate_hz), len(samples))


def coded(
    samples: np.ndarray, rate_hz: int, container: str, codec: str, compression: float | None = None
) -> np.ndarray:
    """Return samples after a codec of libsndfile, float32 ``[samples]``, with the delay that its file names removed.

    Args:
        samples: float ``[samples]``; beyond full scale they are clipped.
        rate_hz: Sample rate.
        container: Format of libsndfile.
        codec: Subtype of libsndfile.
        compression: Compression of libsndfile, 0 to 1; None for codecs without.
    """
    import soundfile

    file = io.BytesIO()
    soundfile.write(
        file, np.clip(samples, -1, 1), rate_hz, format=container, subtype=codec, compression_level=compression
    )
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def of_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Return float32 samples of a length, cut or with zeros at the end.

    Args:
        samples: float ``[any number of samples]``.
        length: Number of samples of the result.
    """
    return np.pad(samples[:length], (0, max(0, length - len(samples)))).astype(np.float32)
