import io
import struct

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.audio.decoding import AudioLimits, BadAudio, decode
from modules.audio.wav import decode_wav

RATE_HZ = 16_000
ITEM = 3


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def decode_in_graph(encoded):
    return decode_wav(encoded, index=tf.constant(ITEM))


def encode(samples, *, rate_hz=RATE_HZ, subtype="PCM_16", container="WAV"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype=subtype, format=container)
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
    waveform, rate_hz = decode_in_graph(encoded)
    expected = decode(encoded)
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
    "empty": (b"", r"audio is empty \(0 bytes\); a WAV file is wanted"),
    "one byte": (b"R", r"not a WAV file: its 1 bytes begin with 82; RIFF\.\.\.\.WAVE is wanted"),
    "text": (b"These are words, not sound. " * 40, "not a WAV file: its 1120 bytes begin with 84 104 101"),
    "flac": (encode(noise(8000), container="FLAC"), "not a WAV file"),
    "header only": (GOOD[:12], "truncated or damaged: no data chunk among the first 64 in its 12 bytes"),
    "header cut": (GOOD[:30], "truncated or damaged: no data chunk among the first 64 in its 30 bytes"),
    "cut before the data's size": (GOOD[:41], "truncated or damaged: no data chunk among the first 64 in its 41 bytes"),
    "truncated": (GOOD[:9000], "truncated: its data chunk has 8956 of 16000 bytes"),
    "no fmt chunk": (GOOD.replace(b"fmt ", b"junk"), "no fmt chunk before its data chunk"),
    "fmt chunk too short": (
        GOOD[:16] + struct.pack("<I", 4) + bytes(4) + GOOD[36:],
        "fmt chunk is shorter than 16 bytes",
    ),
    "many small chunks": (
        GOOD[:12] + (b"LIST" + bytes(4)) * 100_000,
        "no data chunk among the first 64 in its 800012 bytes",
    ),
    "zero-length data": (encode(noise(0)), "no samples: its data chunk has length zero"),
    "mu-law": (encode(noise(8000), subtype="ULAW"), r"format code 7 with 8 bits; wanted: 8, 16, 24 or 32-bit PCM"),
    "12 bits": (with_field(GOOD, 14, "<H", 12), "format code 1 with 12 bits"),
    "no channels": (with_field(GOOD, 2, "<H", 0), "0 channels; 1 to 64 are allowed"),
    "too many channels": (with_field(GOOD, 2, "<H", 65_535), "65535 channels; 1 to 64 are allowed"),
    "rate of 0": (with_field(GOOD, 4, "<I", 0), "sample rate of 0 Hz; 4000 to 384000 Hz are allowed"),
    "absurd rate": (with_field(GOOD, 4, "<I", 0xFFFF_FFFF), "sample rate of 4294967295 Hz"),
    "too short": (encode(noise(800)), r"lasts 0\.05\d* s; 0\.1 to 600 s are allowed"),
    "20 minutes": (encode(noise(4_000 * 1200), rate_hz=4_000), r"lasts 1200\.\d+ s; 0\.1 to 600 s are allowed"),
    "all-zero": (encode(np.zeros(8000)), r"silent audio: its peak is 0\.0+ of full scale; above 0\.0001 needed"),
    "NaN": (encode(np.r_[noise(8000)[:, 0], np.nan], subtype="FLOAT"), "samples that are not finite numbers"),
    "infinite": (encode(np.r_[noise(8000)[:, 0], np.inf], subtype="FLOAT"), "samples that are not finite numbers"),
    "integers as float": (encode(noise(8000) * 32768, subtype="FLOAT"), r"peak is 29\d+\.\d+ times full scale"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_audio_is_an_invalid_argument_that_says_what_was_wrong(name):
    encoded, message = BAD[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"item {ITEM}: .*{message}"):
        decode_in_graph(encoded)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode_wav(tf.constant(encoded))  # eagerly, and without an item number


def test_limits_are_the_callers():
    limits = AudioLimits(max_duration_sec=0.4, max_bytes=20_000)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"0\.1 to 0\.4 s are allowed"):
        decode_wav(tf.constant(GOOD), limits=limits)
    with pytest.raises(tf.errors.InvalidArgumentError, match="48044 bytes; at most 20000 are allowed"):
        decode_wav(tf.constant(encode(noise(24_000))), limits=limits)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_order(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"item {ITEM}: "):
        decode_in_graph(encoded)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 67), st.integers(0, 255)), max_size=6),
    st.integers(0, len(encode(noise(4000), container="WAVEX"))),
)
def test_a_damaged_header_is_refused_in_order_or_read(changes, length):
    damaged = bytearray(encode(noise(4000), container="WAVEX")[:length])
    for position, value in changes:
        if position < length:
            damaged[position] = value
    try:
        waveform, rate_hz = decode_in_graph(bytes(damaged))
    except tf.errors.InvalidArgumentError as error:
        message = error.message
    else:
        message = f"item {ITEM}: read"
        assert np.isfinite(waveform).all()
        assert 4_000 <= int(rate_hz) <= 384_000
    assert f"item {ITEM}: " in message


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("flac", "mu-law", "12 bits")])
def test_ingest_refuses_the_same_files(name):
    with pytest.raises(BadAudio):
        decode(BAD[name][0])
