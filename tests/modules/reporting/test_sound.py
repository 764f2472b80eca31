import base64
import io

import numpy as np
import pytest
import soundfile

from modules.reporting.sound import embed


def tone(seconds: float, rate_hz: int) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)


def decoded(address: str) -> tuple[np.ndarray, int]:
    kind, _, content = address.partition(",")
    assert kind == "data:audio/mpeg;base64"
    return soundfile.read(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "heard_sec"), [(2.0, 48_000, 2.0), (1.0, 8_000, 1.0), (14.0, 16_000, 10.0)]
)
def test_the_start_of_a_recording_is_embedded(tmp_path, seconds, rate_hz, heard_sec):
    soundfile.write(tmp_path / "a.flac", tone(seconds, rate_hz), rate_hz)
    samples, embedded_hz = decoded(embed(["a.flac"], tmp_path)["a.flac"])
    assert len(samples) / embedded_hz == pytest.approx(heard_sec, abs=0.1)  # MP3 pads to whole frames
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * embedded_hz / len(samples) == pytest.approx(440, abs=2)


def test_recordings_that_cannot_be_read_are_left_out(tmp_path):
    (tmp_path / "words.wav").write_text("no sound")
    soundfile.write(tmp_path / "good.wav", tone(1, 16_000), 16_000)
    assert list(embed(["words.wav", "missing.wav", "good.wav"], tmp_path)) == ["good.wav"]
