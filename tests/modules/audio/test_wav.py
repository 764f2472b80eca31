import io
import re
import struct

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.audio.decoding import AudioCode, AudioLimits, BadAudio, decode
from modules.audio.wav import decode_floats, decode_wav

RATE_HZ = 16_000

decode_in_graph = tf.function(decode_wav, input_signature=[tf.TensorSpec([], tf.string)])


def error_in_graph(encoded):
    return decode_in_graph(encoded).error.numpy().decode()


def values_of(text):
    return re.findall(r"\b\d+\b", text)


def encode(samples, *, rate_hz=RATE_HZ, subtype="PCM_16", container="WAV", endian="FILE"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype=subtype, format=container, endian=endian)
    return buffer.getvalue()


def noise(frames, channels=1):
    return np.random.default_rng(frames).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)


def with_field(data, offset, code, value):
    """Overwrites a header field: ``offset`` counts from the start of the fmt chunk's content."""
    changed = bytearray(data)
    struct.pack_into(code, changed, data.index(b"fmt ") + 8 + offset, value)
    return bytes(changed)


def with_data_size(data, size):
    return with_field(data, data.index(b"data") + 4 - data.index(b"fmt ") - 8, "<I", size)


def with_chunk_before_data(data, chunk):
    at = data.index(b"data")
    return data[:at] + chunk + data[at:]


def assert_decodes_as_soundfile_does(encoded):
    waveform, rate_hz, error = decode_in_graph(encoded)
    expected = decode(encoded)
    assert error.numpy() == b""
    assert waveform.dtype == tf.float32
    assert rate_hz.dtype == tf.int32
    assert int(rate_hz) == expected.sample_rate_hz
    np.testing.assert_allclose(waveform, expected.samples, atol=1e-7, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_samples_are_those_of_soundfile(subtype, container, channels):
    assert_decodes_as_soundfile_does(encode(noise(8001, channels), subtype=subtype, container=container))


@pytest.mark.parametrize("rate_hz", [4_000, 8_000, 22_050, 44_100, 48_000, 192_000, 384_000])
def test_any_rate_is_read(rate_hz):
    assert_decodes_as_soundfile_does(encode(noise(rate_hz // 2), rate_hz=rate_hz))


def test_16_bit_samples_are_exact():
    samples = np.array([-32768, -1, 0, 1, 32767] * 1000, np.int16)
    np.testing.assert_array_equal(decode_in_graph(encode(samples))[0], samples.astype(np.float32) / 32768)


@pytest.mark.parametrize("size", [3, 10, 4001])
def test_other_chunks_are_passed_over(size):
    chunk = b"LIST" + struct.pack("<I", size) + bytes(size + size % 2)
    encoded = with_chunk_before_data(encode(noise(8000)), chunk)
    assert_decodes_as_soundfile_does(encoded)
    assert_decodes_as_soundfile_does(encoded + chunk)


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_F000 + 36])
def test_a_streamed_file_of_unknown_length_is_read_to_its_end(size):
    assert_decodes_as_soundfile_does(with_data_size(encode(noise(8000)), size))


def test_an_incomplete_last_frame_is_left_out():
    stereo = encode(noise(8000, 2))
    assert_decodes_as_soundfile_does(with_data_size(stereo, 8000 * 4 - 1))


GOOD = encode(noise(8000))
BAD = {
    "empty": (b"", AudioCode.EMPTY),
    "one byte": (b"R", AudioCode.UNREADABLE),
    "text": (b"These are words, not sound. " * 40, AudioCode.UNREADABLE),
    "header only": (GOOD[:12], AudioCode.TRUNCATED),
    "header cut": (GOOD[:30], AudioCode.TRUNCATED),
    "cut before the data's size": (GOOD[:41], AudioCode.TRUNCATED),
    "truncated": (GOOD[:9000], AudioCode.TRUNCATED),
    "no fmt chunk": (GOOD.replace(b"fmt ", b"junk"), AudioCode.UNREADABLE),
    "fmt chunk too short": (GOOD[:16] + struct.pack("<I", 4) + bytes(4) + GOOD[36:], AudioCode.UNREADABLE),
    "many small chunks": (GOOD[:12] + (b"LIST" + bytes(4)) * 100_000, AudioCode.TRUNCATED),
    "zero-length data": (encode(noise(0)), AudioCode.NO_SAMPLES),
    "too short": (encode(noise(800)), AudioCode.TOO_SHORT),
    "20 minutes": (encode(noise(4_000 * 1200), rate_hz=4_000), AudioCode.TOO_LONG),
    "cancelling channels": (encode(noise(8000) * [[1, -1]]), AudioCode.CANCELLED),
    "NaN": (encode(np.r_[noise(8000)[:, 0], np.nan], subtype="FLOAT"), AudioCode.NOT_FINITE),
    "infinite": (encode(np.r_[noise(8000)[:, 0], np.inf], subtype="FLOAT"), AudioCode.NOT_FINITE),
    "integers as float": (encode(noise(8000) * 32768, subtype="FLOAT"), AudioCode.TOO_LOUD),
}
"""Files that the graph and the ingestion refuse with the same code."""

BAD_HEADERS = {
    "no channels": (with_field(GOOD, 2, "<H", 0), AudioCode.CHANNELS),
    "too many channels": (with_field(GOOD, 2, "<H", 65_535), AudioCode.CHANNELS),
    "rate of 0": (with_field(GOOD, 4, "<I", 0), AudioCode.SAMPLE_RATE),
    "absurd rate": (with_field(GOOD, 4, "<I", 0xFFFF_FFFF), AudioCode.SAMPLE_RATE),
}
"""Libsndfile refuses these headers before the ingestion can check them."""

ONLY_FOR_INGEST = {
    "flac": encode(noise(8000), container="FLAC"),
    "mu-law": encode(noise(8000), subtype="ULAW"),
    "12 bits": with_field(GOOD, 14, "<H", 12),
    "IMA ADPCM": encode(noise(8000), subtype="IMA_ADPCM"),
    "Microsoft ADPCM": encode(noise(8000), subtype="MS_ADPCM"),
    "RF64": encode(noise(8000), container="RF64"),
    "W64": encode(noise(8000), container="W64"),
    "RIFX": encode(noise(8000), endian="BIG"),
}
"""Files that libsndfile reads and the graph does not."""


@pytest.mark.parametrize("name", BAD)
def test_graph_and_ingestion_refuse_a_file_with_the_same_code(name):
    encoded, code = BAD[name]
    assert error_in_graph(encoded).startswith(f"{code}: ")
    with pytest.raises(BadAudio) as caught:
        decode(encoded)
    assert caught.value.code == code


@pytest.mark.parametrize("scale", [[1, 0], [1, -0.8], [0] * 63 + [1]])
def test_channels_that_do_not_cancel_are_averaged(scale):
    encoded = encode(0.1 * noise(8000) * [scale], subtype="FLOAT")
    assert error_in_graph(encoded) == ""
    decode(encoded)


def test_graph_reads_the_silence_that_ingestion_refuses():
    encoded = encode(np.zeros(8000))
    assert error_in_graph(encoded) == ""
    with pytest.raises(BadAudio, match=AudioCode.SILENT):
        decode(encoded)
    assert not decode(encoded, allow_silence=True).samples.any()


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_graph_checks_the_header_that_libsndfile_cannot_read(name):
    encoded, code = BAD_HEADERS[name]
    assert error_in_graph(encoded).startswith(f"{code}: ")
    with pytest.raises(BadAudio) as caught:
        decode(encoded)
    assert caught.value.code == AudioCode.UNREADABLE


@pytest.mark.parametrize("name", ONLY_FOR_INGEST)
def test_graph_reads_wav_of_common_encodings_alone(name):
    assert error_in_graph(ONLY_FOR_INGEST[name]).startswith(f"{AudioCode.UNREADABLE}: ")
    decode(ONLY_FOR_INGEST[name])


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "truncated",
        "zero-length data",
        "too short",
        "20 minutes",
        "NaN",
        "cancelling channels",
        "integers as float",
    ],
)
def test_graph_and_ingestion_format_the_same_text(name):
    encoded, _ = BAD[name]
    with pytest.raises(BadAudio) as caught:
        decode(encoded)
    assert error_in_graph(encoded) == caught.value.reason


def test_an_error_has_measured_and_allowed_values():
    assert values_of(error_in_graph(BAD["truncated"][0])) == ["8956", "16000"]
    assert values_of(error_in_graph(BAD["text"][0]))[:4] == ["1120", "84", "104", "101"]
    assert values_of(error_in_graph(BAD_HEADERS["too many channels"][0])) == ["65535", "1", "64"]
    assert values_of(error_in_graph(ONLY_FOR_INGEST["mu-law"]))[:2] == ["7", "8"]


LIMITS = AudioLimits(
    min_duration_sec=0.2,
    max_duration_sec=0.5,
    max_bytes=20_000,
    min_sample_rate_hz=8_000,
    max_sample_rate_hz=16_000,
    max_channels=1,
    max_peak=0.9,
)
OUTSIDE = {
    AudioCode.TOO_LARGE: encode(noise(12_000)),
    AudioCode.TOO_SHORT: encode(noise(2_000)),
    AudioCode.TOO_LONG: encode(noise(9_000)),
    AudioCode.SAMPLE_RATE: encode(noise(4_000), rate_hz=16_001),
    AudioCode.CHANNELS: encode(noise(4_000, 2)),
    AudioCode.TOO_LOUD: encode(noise(4_000) / 0.9),
}


@pytest.mark.parametrize("code", OUTSIDE)
def test_limits_are_the_callers(code):
    encoded = OUTSIDE[code]
    assert decode_in_graph(encoded).error.numpy() == b""
    decode(encoded)
    assert decode_wav(tf.constant(encoded), limits=LIMITS).error.numpy().decode().startswith(f"{code}: ")
    with pytest.raises(BadAudio) as caught:
        decode(encoded, LIMITS)
    assert caught.value.code == code


def test_samples_without_a_header_are_those_of_a_file():
    samples = noise(8000)[:, 0]
    waveform, rate_hz, error = decode_floats(samples.tobytes(), tf.constant(RATE_HZ))
    assert (error.numpy(), rate_hz.numpy()) == (b"", RATE_HZ)
    np.testing.assert_array_equal(waveform, samples)


@pytest.mark.parametrize(
    ("samples", "rate_hz", "code"),
    [
        (b"", RATE_HZ, AudioCode.EMPTY),
        (noise(8000).tobytes()[:-1], RATE_HZ, AudioCode.TRUNCATED),
        (noise(8000).tobytes(), 0, AudioCode.SAMPLE_RATE),
        (noise(8000).tobytes(), -1, AudioCode.SAMPLE_RATE),
        (noise(8000).tobytes(), 2**31 - 1, AudioCode.SAMPLE_RATE),
        (noise(8000).tobytes(), 192_000, AudioCode.TOO_SHORT),
        (np.full(8000, np.nan, np.float32).tobytes(), RATE_HZ, AudioCode.NOT_FINITE),
        ((noise(8000) * 32_768).tobytes(), RATE_HZ, AudioCode.TOO_LOUD),
    ],
)
def test_bad_samples_without_a_header_have_an_error(samples, rate_hz, code):
    error = decode_floats(tf.constant(samples), tf.constant(rate_hz)).error
    assert error.numpy().decode().startswith(f"{code}: ")


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_have_an_error_and_never_raise(encoded):
    assert error_in_graph(encoded).startswith("AUDIO_")


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 67), st.integers(0, 255)), max_size=6),
    st.integers(0, len(encode(noise(4000), container="WAVEX"))),
)
def test_a_damaged_header_has_an_error_or_is_read(changes, length):
    damaged = bytearray(encode(noise(4000), container="WAVEX")[:length])
    for position, value in changes:
        if position < length:
            damaged[position] = value
    waveform, rate_hz, error = decode_in_graph(bytes(damaged))
    if error.numpy() == b"":
        assert np.isfinite(waveform).all()
        assert 4_000 <= int(rate_hz) <= 384_000
    else:
        assert error.numpy().startswith(b"AUDIO_")
