"""Conversion of files, bytes and arrays by the client."""

import io

import numpy as np
import pytest
import soundfile

from serving.client import AudioError
from serving.client.parts import WAV_HEADER_BYTES
from serving.client.recordings import bytes_per_frame, open_long, read_wav, to_wav


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


def test_a_channel_is_that_channel_alone(int16_samples):
    stereo = np.stack([int16_samples, int16_samples[::-1]], axis=1)
    assert to_wav((stereo, 16_000), channel=2) == to_wav((int16_samples[::-1], 16_000))
    with open_long((stereo, 16_000), channel=1) as sound:
        assert (sound.channels, sound.frames) == (1, len(int16_samples))
        samples, _ = samples_of(read_wav(sound, start_frame=10, frames=20))
    np.testing.assert_array_equal(samples, int16_samples[10:30])


@pytest.mark.parametrize("read", [to_wav, open_long])
@pytest.mark.parametrize("channel", [0, 3])
def test_a_channel_that_is_missing_is_refused(int16_samples, read, channel):
    stereo = np.stack([int16_samples, int16_samples], axis=1)
    with pytest.raises(AudioError, match=f"channel {channel} of 2") as caught:
        read((stereo, 16_000), channel=channel)
    assert caught.value.code == "AUDIO_CHANNELS"


@pytest.mark.parametrize("read", [to_wav, open_long])
def test_channels_that_cancel_need_a_choice(int16_samples, read):
    stereo = np.stack([int16_samples, -int16_samples.clip(-32_767)], axis=1)
    with pytest.raises(AudioError, match="--channel") as caught:
        read((stereo, 16_000))
    assert caught.value.code == "AUDIO_CHANNELS_CANCEL"
    read((stereo, 16_000), channel=1)


def test_parts_of_many_channels_are_their_mean(int16_samples):
    six = np.stack([np.roll(int16_samples, shift) for shift in range(6)], axis=1)
    with open_long((six, 16_000)) as sound:
        encoded = read_wav(sound, start_frame=0, frames=1_000)
        assert bytes_per_frame(sound) == 4
    assert len(encoded) < 4 * 1_000 + WAV_HEADER_BYTES + 64
    samples, _ = soundfile.read(io.BytesIO(encoded), dtype="float32")
    np.testing.assert_allclose(samples, (six[:1_000] / 32_768).mean(axis=1), atol=1e-7)


@pytest.mark.parametrize(
    ("limit", "code"), [({"max_sec": 1.0}, "AUDIO_TOO_LONG"), ({"max_bytes": 100}, "AUDIO_TOO_LARGE")]
)
@pytest.mark.parametrize("channel", [None, 1])
def test_what_one_request_does_not_take_is_refused(wav_bytes, limit, code, channel):
    with pytest.raises(AudioError) as caught:
        to_wav(wav_bytes, channel=channel, **limit)
    assert caught.value.code == code


WAYS = {
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "path": lambda path: path,
    "text": str,
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_form_of_a_file_is_taken(tmp_path, wav_bytes, way):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes)
    assert to_wav(WAYS[way](path)) == wav_bytes


def test_an_open_file_is_read_from_its_start(wav_bytes):
    file = io.BytesIO()
    file.write(wav_bytes)
    assert to_wav(file) == wav_bytes


@pytest.mark.parametrize(
    "audio",
    [None, 3, [0.1, 0.2], np.zeros(8_000), (16_000, np.zeros(8_000)), (np.zeros(8_000),), io.StringIO("a"), "a\0b", {}],
)
def test_anything_else_is_refused_with_what_is_taken(audio):
    with pytest.raises(AudioError) as caught:
        to_wav(audio)
    assert caught.value.code == "AUDIO_UNREADABLE"


@pytest.mark.parametrize("rate_hz", [0, -1, 1.5, float("nan"), "16000", None, 2**40])
def test_a_rate_that_is_not_a_whole_number_is_refused(rate_hz):
    with pytest.raises(AudioError) as caught:
        to_wav((np.full(8_000, 0.1, np.float32), rate_hz))
    assert caught.value.code == "AUDIO_UNREADABLE"


def test_floats_at_the_scale_of_int16_are_refused(int16_samples):
    with pytest.raises(AudioError, match="32768") as caught:
        to_wav((int16_samples.astype(np.float32), 16_000))
    assert caught.value.code == "AUDIO_TOO_LOUD"


def test_a_folder_and_a_device_are_not_recordings(tmp_path):
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(AudioError) as caught:
            to_wav(path)
        assert caught.value.code == "AUDIO_UNREADABLE"


def with_data_size(wav, size):
    at = wav.index(b"data") + 4
    return wav[:at] + size.to_bytes(4, "little") + wav[at + 4 :]


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_F024])
def test_a_wav_of_a_recorder_that_was_killed_is_sent_with_its_size(wav_bytes, size):
    assert to_wav(with_data_size(wav_bytes, size)) == wav_bytes


FORMS = {"gsm": ("WAV", "GSM610", 8_000), "mp3": ("MP3", None, 16_000), "opus": ("OGG", "OPUS", 48_000)}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_cannot_be_sought_is_read_whole_and_in_parts(speechlike, form):
    container, subtype, rate_hz = FORMS[form]
    file = io.BytesIO()
    soundfile.write(file, speechlike(rate_hz=rate_hz), rate_hz, format=container, subtype=subtype)
    whole, _ = soundfile.read(io.BytesIO(to_wav(file)), dtype="float32")
    with open_long(file) as sound:
        part, _ = soundfile.read(io.BytesIO(read_wav(sound, start_frame=5_000, frames=1_000)), dtype="float32")
        assert sound.frames == len(whole)
    np.testing.assert_allclose(part, whole[5_000:6_000], atol=2**-15)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda wav: wav[: len(wav) // 2], "AUDIO_TRUNCATED"),
        (lambda wav: b"", "AUDIO_EMPTY"),
        (lambda wav: with_data_size(wav[:44], 0), "AUDIO_NO_SAMPLES"),
        (lambda wav: b"<html></html>", "AUDIO_UNREADABLE"),
    ],
)
def test_a_timeline_refuses_what_a_prediction_refuses(wav_bytes, damage, code):
    for read in (to_wav, open_long):
        with pytest.raises(AudioError) as caught:
            read(damage(wav_bytes))
        assert caught.value.code == code
