import io
import struct

import numpy as np
import pytest
import soundfile

from modules.audio.decoding import AudioLimits, BadAudio, decode

RATE_HZ = 16_000


def encode(samples, *, rate_hz=RATE_HZ, subtype="PCM_16", container="WAV"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype=subtype, format=container)
    return buffer.getvalue()


def noise(frames, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("container", "subtype", "step"),
    [
        ("WAV", "PCM_U8", 2 / 2**8),
        ("WAV", "PCM_16", 2 / 2**16),
        ("WAV", "PCM_24", 2 / 2**24),
        ("WAV", "PCM_32", 1e-7),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAVEX", "PCM_24", 2 / 2**24),
        ("FLAC", "PCM_16", 2 / 2**16),
        ("AIFF", "PCM_16", 2 / 2**16),
    ],
)
def test_gives_the_samples_that_were_encoded(container, subtype, step):
    samples = noise(8000)
    recording = decode(encode(samples, subtype=subtype, container=container))
    assert recording.sample_rate_hz == RATE_HZ
    assert recording.samples.dtype == np.float32
    np.testing.assert_allclose(recording.samples, samples[:, 0], atol=step, rtol=0)


def test_int16_is_divided_by_32768():
    samples = np.array([-32768, -1, 0, 1, 32767] * 1000, np.int16)
    np.testing.assert_array_equal(decode(encode(samples)).samples, samples.astype(np.float32) / 32768)


@pytest.mark.parametrize("channels", [2, 6])
def test_averages_channels(channels):
    samples = noise(8000, channels)
    decoded = decode(encode(samples, subtype="FLOAT")).samples
    np.testing.assert_allclose(decoded, samples.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 192_000])
def test_keeps_the_native_rate(rate_hz):
    recording = decode(encode(noise(rate_hz), rate_hz=rate_hz))
    assert recording.sample_rate_hz == rate_hz
    assert recording.duration_sec == 1.0


def test_reads_recordings_longer_than_one_block():
    samples = noise(700_000)
    np.testing.assert_allclose(decode(encode(samples, subtype="FLOAT")).samples, samples[:, 0])


def test_a_streamed_wav_of_unknown_length_is_read_to_its_end():
    data = bytearray(encode(noise(8000)))
    struct.pack_into("<I", data, data.index(b"data") + 4, 0xFFFF_FFFF)
    assert len(decode(bytes(data)).samples) == 8000


def not_finite(value):
    samples = noise(8000)
    samples[5000] = value
    return encode(samples, subtype="FLOAT")


@pytest.mark.parametrize(
    ("data", "code", "values"),
    [
        pytest.param(b"", "AUDIO_EMPTY", (), id="empty"),
        pytest.param(b"These are words, not sound. " * 40, "AUDIO_UNREADABLE", (), id="text"),
        pytest.param(b"RIFF", "AUDIO_UNREADABLE", (), id="four bytes"),
        pytest.param(encode(noise(8000))[:30], "AUDIO_TRUNCATED", (), id="truncated in the header"),
        pytest.param(encode(noise(8000))[:9000], "AUDIO_TRUNCATED", ("8956", "16000"), id="truncated wav"),
        pytest.param(encode(noise(8000), container="FLAC")[:9000], "AUDIO_UNREADABLE", (), id="truncated flac"),
        pytest.param(encode(noise(0)), "AUDIO_NO_SAMPLES", (), id="zero-length data"),
        pytest.param(not_finite(np.nan), "AUDIO_NOT_FINITE", (), id="NaN"),
        pytest.param(not_finite(np.inf), "AUDIO_NOT_FINITE", (), id="infinite"),
        pytest.param(not_finite(30_000), "AUDIO_TOO_LOUD", ("3.0e+04",), id="integers stored as float"),
        pytest.param(encode(np.zeros(8000)), "AUDIO_SILENT", (), id="all-zero"),
        pytest.param(encode(noise(int(0.05 * RATE_HZ))), "AUDIO_TOO_SHORT", ("0.050 s",), id="0.05 s"),
        pytest.param(encode(noise(1201 * 4000), rate_hz=4000), "AUDIO_TOO_LONG", ("1201",), id="20 minutes"),
        pytest.param(encode(noise(8000), rate_hz=1_000), "AUDIO_SAMPLE_RATE", ("1000", "4000", "384000"), id="1 kHz"),
        pytest.param(encode(noise(800_000), rate_hz=800_000), "AUDIO_SAMPLE_RATE", ("800000",), id="800 kHz"),
        pytest.param(encode(noise(8000, 65)), "AUDIO_CHANNELS", ("65", "1", "64"), id="65 channels"),
    ],
)
def test_bad_audio_is_refused_with_its_code_and_values(data, code, values):
    with pytest.raises(BadAudio) as caught:
        decode(data)
    assert caught.value.code == code
    assert caught.value.reason == str(caught.value)
    assert caught.value.reason.startswith(f"{code}: ")
    assert all(value in caught.value.reason for value in values)


def test_files_above_the_size_limit_are_not_read():
    with pytest.raises(BadAudio, match=r"AUDIO_TOO_LARGE: 16044 .*1000"):
        decode(encode(noise(8000)), AudioLimits(max_bytes=1000))


def test_a_streamed_wav_is_checked_after_it_is_read():
    data = bytearray(encode(noise(RATE_HZ)))
    struct.pack_into("<I", data, data.index(b"data") + 4, 0xFFFF_FFFF)
    with pytest.raises(BadAudio, match="AUDIO_TOO_SHORT"):
        decode(bytes(data), AudioLimits(min_duration_sec=2))
    with pytest.raises(BadAudio, match="AUDIO_TOO_LONG"):
        decode(bytes(data), AudioLimits(max_duration_sec=0.5))


def test_limits_are_read_back_from_their_text():
    limits = AudioLimits(min_duration_sec=0.5, silence_peak=0.01)
    assert AudioLimits.from_json(limits.to_json()) == limits
