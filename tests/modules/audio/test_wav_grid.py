"""WAV files of a grid, decoded by the served graph and by libsndfile.

The graph gives libsndfile's samples or refuses the file. What it refuses although libsndfile reads it is counted.
"""

import io
import itertools
import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from modules.audio import riff
from modules.audio.decoding import WIDEST_LIMITS
from modules.audio.wav import Decoded, decode_wav

RATE_HZ = 16_000
FRAMES = 40
EXTENSIBLE = 0xFFFE
MICROSOFT = bytes.fromhex("000000001000800000aa00389b71")
AMBISONIC = bytes.fromhex("00002107d3118644c8c1ca000000")

ENCODINGS = {
    "PCM": (1, b""),
    "float": (3, b""),
    "A-law": (6, b""),
    "mu-law": (7, b""),
    "MS ADPCM": (2, b""),
    "IMA ADPCM": (17, b""),
    "unknown": (0x1234, b""),
    "extensible PCM": (1, MICROSOFT),
    "extensible float": (3, MICROSOFT),
    "extensible A-law": (6, MICROSOFT),
    "extensible mu-law": (7, MICROSOFT),
    "extensible ADPCM": (2, MICROSOFT),
    "extensible unknown": (0x1234, MICROSOFT),
    "Ambisonic PCM": (1, AMBISONIC),
    "Ambisonic float": (3, AMBISONIC),
    "PCM with an unknown GUID": (1, bytes(14)),
}
"""Format code, and what follows it in the GUID of an extensible header."""

BITS = (8, 12, 16, 20, 24, 32, 64)
CHANNELS = (0, 1, 2, 6, 65)
ORDINARY = {
    *itertools.product(("PCM", "extensible PCM", "Ambisonic PCM"), (8, 16, 24, 32)),
    *itertools.product(("float", "extensible float", "Ambisonic float"), (32, 64)),
}
"""Encodings that the graph has to read."""

ALIGNS = ("right", "zero", "one more", "double", "words")
REGULAR_ORDERS = (
    "F D",
    "LIST F D",
    "F LIST D",
    "F fact D",
    "F odd D",
    "odd F D",
    "F PEAK D",
    "F acid smpl D",
    "F D LIST",
    "F D odd",
    "F D zeros",
)
ODD_ORDERS = (
    "D F",
    "D",
    "F",
    "F F D",
    "mono8 F D",
    "F mono8 D",
    "F D F",
    "F D D",
    "F D D LIST",
    "odd-unpadded F D",
    "F odd-unpadded D",
    "F unnamed D",
    "F zeros D",
    "F long D",
    "PEAK F D",
    "F short-PEAK D",
    "F D short-PEAK",
    "F short-fact D",
    "F short-acid D",
    "F short-smpl D",
    "F RIFF D",
    "F D RIFF",
)
SIZES = ("right", "large", "zero", "all ones", "SoX", "odd", "half", "one")
FORMAT_BYTES = (0, 14, 15, 16, 17, 18, 20, 38, 39, 40, 41, 48)


class Wav(NamedTuple):
    """A file of the grid.

    Attributes:
        encoding: Key of ``ENCODINGS``.
        bits: Bits per sample.
        channels: Number of channels.
        align: How the bytes of a frame in the header relate to the right number.
        order: Names of the chunks; F is ``fmt``, D is ``data``.
        size: Size of the data in its header.
        format_bytes: Size of the ``fmt`` chunk; None for that of the encoding.
        start: First bytes of the data.
    """

    encoding: str
    bits: int
    channels: int
    align: str = "right"
    order: str = "F D"
    size: str = "right"
    format_bytes: int | None = None
    start: bytes = b""

    @property
    def block_bytes(self) -> int:
        """Bytes of a frame in the header."""
        right = self.channels * -(-self.bits // 8)
        by_name = {"right": right, "zero": 0, "one more": right + 1, "double": 2 * right, "words": 4 * self.channels}
        return by_name[self.align]

    @property
    def peculiarity(self) -> str:
        """Why the graph may refuse the file although libsndfile reads it; empty if it has to read it."""
        if (self.encoding, self.bits) not in ORDINARY or self.channels == 0:
            return "encoding"
        if self.encoding == "PCM" and self.bits == 24 and self.block_bytes == 4 * self.channels:
            return "padded words"
        if self.order not in REGULAR_ORDERS or self.start:
            return "chunks"
        if self.format_bytes is not None and self.format_bytes < (40 if ENCODINGS[self.encoding][1] else 16):
            return "fmt chunk"
        return "size" if self.size not in ("right", "odd", "half") else ""


def grid() -> Iterator[Wav]:
    """Yield the files: all headers in the usual order, and all orders and sizes of some headers."""
    for encoding, bits, channels, align in itertools.product(ENCODINGS, BITS, CHANNELS, ALIGNS):
        yield Wav(encoding, bits, channels, align)
    some = [("PCM", 16, 1), ("PCM", 24, 2), ("PCM", 8, 1), ("float", 32, 1), ("extensible float", 64, 2)]
    for header, order, size in itertools.product(some, (*REGULAR_ORDERS, *ODD_ORDERS), SIZES):
        yield Wav(*header, order=order, size=size)
    for header, size in itertools.product([("PCM", 16, 1), ("float", 32, 2), ("extensible PCM", 24, 1)], FORMAT_BYTES):
        yield Wav(*header, format_bytes=size)
    for start in (b"wvpk", b"OggS"):
        yield Wav("PCM", 16, 1, start=start)


def encode(wav: Wav) -> bytes:
    content = b"".join(_chunk(wav, name) for name in wav.order.split())
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WAVE" + content


def _chunk(wav: Wav, name: str) -> bytes:
    match name:
        case "F":
            return _packed(b"fmt ", _format(wav))
        case "D":
            data = wav.start + _data(wav)
            stated = len(data) - (wav.size == "odd")
            sizes = {"large": stated + 100, "zero": 0, "all ones": 0xFFFF_FFFF, "SoX": 0x7FFF_F024}
            sizes |= {"half": stated // 2, "one": 1}
            return _packed(b"data", data[:stated], sizes.get(wav.size, stated))
        case "LIST":
            return _packed(b"LIST", b"INFOISFT" + struct.pack("<I", 6) + b"tests\0")
        case "PEAK":
            return _packed(b"PEAK", bytes(8 + 8 * wav.channels))
        case "acid":
            return _packed(b"acid", bytes(24))
        case "smpl":
            return _packed(b"smpl", bytes(36))
        case "fact":
            return _packed(b"fact", struct.pack("<I", FRAMES))
        case "mono8":
            return _packed(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8_000, 8_000, 1, 8))
        case "long":
            return _packed(b"LIST", bytes(4), 1_000_000)
        case "unnamed":
            return _packed(b"\x01\x02\x03\x04", bytes(4))
        case "zeros":
            return bytes(32)
        case "odd-unpadded":
            return b"odd " + struct.pack("<I", 3) + b"abc"
        case "odd":
            return _packed(b"odd ", b"abc")
        case "RIFF":
            return _packed(b"RIFF", b"WAVE")
    return _packed(name.removeprefix("short-").encode(), bytes(2))


def _packed(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def _format(wav: Wav) -> bytes:
    code, guid_end = ENCODINGS[wav.encoding]
    tag = EXTENSIBLE if guid_end else code
    fields = struct.pack("<HHIIHH", tag, wav.channels, RATE_HZ, RATE_HZ * wav.block_bytes, wav.block_bytes, wav.bits)
    if guid_end:
        fields += struct.pack("<HHIH", 22, wav.bits, 0, code) + guid_end
    return fields if wav.format_bytes is None else fields.ljust(48, b"\0")[: wav.format_bytes]


def _data(wav: Wav) -> bytes:
    rng = np.random.default_rng(0)
    count = FRAMES * max(wav.channels, 1)
    if ENCODINGS[wav.encoding][0] == 3 and wav.bits in (32, 64):
        return rng.uniform(-1, 1, count).astype(f"<f{wav.bits // 8}").tobytes()
    if wav.align == "words" and wav.bits == 24:  # as ALSA's arecord writes them; libsndfile looks at 4096 bytes
        return (rng.integers(-(2**20), 2**20, 2048 * max(wav.channels, 1)) * 256).astype("<i4").tobytes()
    return rng.bytes(count * -(-wav.bits // 8))


def by_libsndfile(encoded: bytes) -> tuple[np.ndarray, int] | None:
    """Return float32 ``[samples]``, the mean over the channels, and the rate; None for a file without finite samples.

    An unknown size of the data is that of the rest of the file, as in :func:`modules.audio.decoding.decode`.
    """
    if chunk := riff.data_chunk(encoded):
        encoded = riff.with_data_size(encoded, chunk)
    try:
        samples, rate_hz = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    return (samples.mean(axis=1), rate_hz) if np.isfinite(samples).all() and len(samples) else None


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def decode_in_graph(files: tf.Tensor) -> Decoded:
    outputs = Decoded(
        tf.RaggedTensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.string)
    )
    return tf.map_fn(lambda encoded: decode_wav(encoded, limits=WIDEST_LIMITS), files, fn_output_signature=outputs)


class Outcome(NamedTuple):
    wav: Wav
    expected: tuple[np.ndarray, int] | None
    waveform: np.ndarray
    rate_hz: int
    error: str


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    wavs = list(grid())
    files = [encode(wav) for wav in wavs]
    decoded = decode_in_graph(tf.constant(files))
    ends = decoded.waveform.row_limits().numpy()
    waveforms = np.split(decoded.waveform.flat_values.numpy(), ends[:-1])
    errors = [error.decode() for error in decoded.error.numpy()]
    expected = map(by_libsndfile, files)
    return [
        Outcome(*each) for each in zip(wavs, expected, waveforms, decoded.sample_rate_hz.numpy(), errors, strict=True)
    ]


def test_accepted_files_have_libsndfiles_samples(outcomes):
    accepted = [outcome for outcome in outcomes if not outcome.error]
    assert not [outcome.wav for outcome in accepted if outcome.expected is None]
    for wav, (samples, rate_hz), waveform, rate_in_graph_hz, _ in accepted:
        assert rate_in_graph_hz == rate_hz, wav
        np.testing.assert_allclose(waveform, samples, atol=1e-7, rtol=0, err_msg=str(wav))


def test_ordinary_files_are_accepted(outcomes):
    ordinary = [outcome for outcome in outcomes if not outcome.wav.peculiarity]
    assert {(outcome.wav.encoding, outcome.wav.bits) for outcome in ordinary} == ORDINARY
    assert not [(outcome.wav, outcome.error) for outcome in ordinary if outcome.error]


def test_what_only_libsndfile_reads_is_counted(outcomes):
    refused = [outcome.wav for outcome in outcomes if outcome.error and outcome.expected is not None]
    counts = {"encoding": 680, "chunks": 78, "size": 57, "padded words": 5}
    assert Counter(wav.peculiarity for wav in refused) == counts
