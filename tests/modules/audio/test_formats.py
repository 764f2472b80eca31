"""Formats that are read, and the names of what is not."""

import io
import re
import struct

import numpy as np
import pytest
import soundfile

from modules.audio import containers, formats, mpeg
from modules.audio.decoding import BadAudio, decode

RATE_HZ = 22_050
SECONDS = 3


def tone(seconds=SECONDS, rate_hz=RATE_HZ):
    return (0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def noise(seconds=SECONDS):
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE_HZ)).astype(np.float32)


def encode(samples, container, subtype=None, *, rate_hz=RATE_HZ, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=container, subtype=subtype, **options)
    return buffer.getvalue()


def mp3(samples, *, level, xing=False):
    """MP3 at a constant bit rate; higher levels compress more. Encoders that write to a pipe have no Xing header."""
    data = encode(samples, "MP3", compression_level=level, bitrate_mode="CONSTANT")
    return data if xing else without_xing(data)


def without_xing(data):
    if not re.search(b"Xing|Info", data[:64]):
        return data
    return data[data.index(data[:2], 4) :]


def in_wav(mpeg_audio):
    fmt = struct.pack("<HHIIHHH", 0x55, 1, RATE_HZ, 4000, 1, 0, 0)
    data = b"data" + struct.pack("<I", len(mpeg_audio)) + mpeg_audio
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def decoded_with_av(container, codec, rate_hz):
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(rate_hz=rate_hz)[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate_hz)
        for part in [*resampler.resample(frame), None]:
            for packet in stream.encode(part):
                output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "AIFF", "AU", "CAF", "W64", "RF64", "NIST", "VOC", "MP3"])
def test_each_format_of_libsndfile_is_read(container):
    assert set(formats._SUFFIXES_BY_FORMAT[container]) <= set(formats.suffixes())
    recording = decode(encode(tone(), container))
    assert recording.sample_rate_hz == RATE_HZ
    assert recording.duration_sec == pytest.approx(SECONDS, abs=0.1)


def test_opus_is_read():
    assert decode(encode(tone(rate_hz=48_000), "OGG", "OPUS", rate_hz=48_000)).duration_sec == pytest.approx(SECONDS)


def test_gsm_is_read():
    recording = decode(encode(tone(rate_hz=8_000), "WAV", "GSM610", rate_hz=8_000))
    assert recording.duration_sec == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(mp3(tone(), level=0.99), id="low bit rate"),
        pytest.param(mp3(noise(), level=0.0), id="high bit rate"),
        pytest.param(mp3(noise(1.5), level=0.0) + mp3(tone(1.5), level=0.99), id="high, then low"),
        pytest.param(mp3(tone(1.5), level=0.99) + mp3(noise(1.5), level=0.0), id="low, then high"),
        pytest.param(mp3(tone(1.5), level=0.3, xing=True) + mp3(tone(1.5), level=0.3, xing=True), id="joined"),
        pytest.param(b"ID3\x04\0\0\0\0\x01\0" + bytes(128) + mp3(tone(), level=0.9), id="after a tag"),
        pytest.param(in_wav(mp3(tone(), level=0.9)), id="in WAV"),
        pytest.param(in_wav(mp3(tone(), level=0.3, xing=True)), id="in WAV, with the length"),
    ],
)
def test_all_of_an_mp3_is_read_whatever_its_length_is_estimated_as(data):
    assert decode(data).duration_sec == pytest.approx(SECONDS, abs=0.2)


def test_a_truncated_mp3_that_states_its_length_is_refused():
    data = mp3(tone(), level=0.3, xing=True)
    with pytest.raises(BadAudio, match=r"AUDIO_TRUNCATED: \d+ of \d+ samples"):
        decode(data[: len(data) // 2])


def test_the_length_of_mpeg_audio_is_that_of_its_frames():
    data = mp3(tone(), level=0.9)
    assert mpeg.length(data) == (pytest.approx(SECONDS * RATE_HZ, abs=4 * 576), 0)
    assert mpeg.length(encode(tone(), "FLAC")) == (0, 0)


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz", "suffix"),
    [
        ("ipod", "aac", 44_100, ".m4a"),
        ("mp4", "aac", 48_000, ".mp4"),
        ("webm", "libopus", 48_000, ".webm"),
        ("amr", "libopencore_amrnb", 8_000, ".amr"),
        ("adts", "aac", 16_000, ".aac"),
    ],
)
def test_other_containers_are_read_with_pyav(container, codec, rate_hz, suffix):
    data = decoded_with_av(container, codec, rate_hz)
    recording = decode(data)
    assert suffix in formats.suffixes()
    assert recording.sample_rate_hz == rate_hz
    assert recording.duration_sec == pytest.approx(SECONDS, abs=0.15)
    assert np.std(recording.samples) == pytest.approx(0.3 / np.sqrt(2), rel=0.3)


def test_a_damaged_container_is_unreadable():
    data = decoded_with_av("ipod", "aac", 44_100)
    with pytest.raises(BadAudio, match=r"AUDIO_UNREADABLE: an M4A file"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer; .*git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML file"),
        (b"path,emotion\n" + "Zürich,ärger\n".encode() * 500, "a text file"),
        (bytes(5000), "a file of zero bytes only"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"%PDF-1.7\n" + bytes(100), "a PDF file"),
        (b"RIFF\0\0\0\0AVI " + bytes(100), "a RIFF file that is not WAV"),
        (b"\x81\x82\x00\x01" * 100, "a file of unknown format, .* 81 82 00 01"),
    ],
)
def test_a_file_that_is_not_sound_is_named(data, name):
    with pytest.raises(BadAudio, match=f"AUDIO_UNREADABLE: {name}"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(100), "an M4A file"),
        (b"\0\0\0\x20ftypisom\0\0\0\0" + bytes(100), "an MP4 file"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x82\x84webm" + bytes(100), "a WebM file"),
        (b"#!AMR\n" + bytes(100), "an AMR file"),
        (b"\xff\xf1\x50\x80" + bytes(100), "an AAC file"),
    ],
)
def test_without_pyav_the_message_names_formats_and_conversion(monkeypatch, data, name):
    monkeypatch.setattr(containers, "can_read", lambda: False)
    with pytest.raises(BadAudio, match=f"AUDIO_UNREADABLE: {name}; .*wav, .*flac.*{containers.INSTALL}.*ffmpeg"):
        decode(data)
    assert ".m4a" not in formats.suffixes()
    assert formats.is_sound("a.M4A")
