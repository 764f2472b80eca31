"""Conversion of files, bytes and arrays by the client."""

import io

import numpy as np
import pytest
import soundfile

from serving.client import AudioError
from serving.client.recordings import open_long, read_wav, to_wav


def samples_of(wav):
    assert soundfile.info(io.BytesIO(wav)).subtype == "PCM_16"
    return soundfile.read(io.BytesIO(wav), dtype="int16")


@pytest.fixture
def int16_samples():
    rng = np.random.default_rng(0)
    return rng.integers(-32_768, 32_768, size=20_000).astype(np.int16)


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_16"), ("a.aiff", "PCM_24")])
def test_lossless_files_arrive_unchanged(tmp_path, int16_samples, name, subtype):
    soundfile.write(tmp_path / name, int16_samples, 44_100, subtype=subtype)
    samples, rate_hz = samples_of(to_wav(tmp_path / name))
    assert rate_hz == 44_100
    np.testing.assert_array_equal(samples, int16_samples)


def test_float_and_int16_arrays_give_the_same_wav(int16_samples):
    as_float = int16_samples / np.float32(32_768)
    assert to_wav((int16_samples, 16_000)) == to_wav((as_float, 16_000))


def test_floats_at_full_scale_are_sent_as_16_bits():
    loud = np.tile(np.array([1.0, -1.0], np.float32), 8_000)
    samples, _ = samples_of(to_wav((loud, 16_000)))
    assert (samples.max(), samples.min()) == (32_767, -32_768)


def test_floats_beyond_full_scale_are_sent_as_they_are():
    loud = np.tile(np.array([1.5, -1.5], np.float32), 8_000)
    samples, _ = soundfile.read(io.BytesIO(to_wav((loud, 16_000))), dtype="float32")
    np.testing.assert_array_equal(samples, loud)


def test_channels_are_kept(int16_samples):
    stereo = np.stack([int16_samples, int16_samples[::-1]], axis=1)
    samples, _ = samples_of(to_wav((stereo, 16_000)))
    np.testing.assert_array_equal(samples, stereo)


def test_16_bit_wav_is_sent_as_it_is(wav_bytes):
    assert to_wav(wav_bytes) is wav_bytes


def test_lossy_files_are_read(tmp_path, speechlike):
    soundfile.write(tmp_path / "a.ogg", speechlike(), 48_000)
    samples, rate_hz = samples_of(to_wav(tmp_path / "a.ogg"))
    assert (len(samples), rate_hz) == (3 * 48_000, 48_000)


@pytest.mark.parametrize(
    ("audio", "code", "value"),
    [
        ("nowhere.wav", "AUDIO_UNREADABLE", "nowhere.wav"),
        (b"", "AUDIO_EMPTY", "0 bytes"),
        (b"not sound at all", "AUDIO_UNREADABLE", "16 bytes"),
        ((np.zeros((2, 8_000), np.float32), 16_000), "AUDIO_UNREADABLE", r"\[samples, channels\]"),
        ((np.zeros(8_000, np.int64), 16_000), "AUDIO_UNREADABLE", "int64"),
        ((np.zeros(8_000, np.float32), 0), "AUDIO_UNREADABLE", "0 Hz"),
        ((np.full(8_000, np.nan, np.float32), 16_000), "AUDIO_NOT_FINITE", r"\(8000,\)"),
        ((np.zeros(8_000, np.float32), 16_000), "AUDIO_SILENT", r"\(8000,\)"),
        ((np.zeros(0, np.float32), 16_000), "AUDIO_NO_SAMPLES", r"\(0,\)"),
    ],
)
def test_unusable_recordings_are_refused_with_the_reason(audio, code, value):
    with pytest.raises(AudioError, match=value) as caught:
        to_wav(audio)
    assert caught.value.code == code


def test_a_part_of_a_long_recording(int16_samples):
    with open_long((int16_samples, 16_000)) as sound:
        samples, _ = samples_of(read_wav(sound, start_frame=5_000, frames=1_000))
    np.testing.assert_array_equal(samples, int16_samples[5_000:6_000])
