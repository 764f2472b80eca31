import numpy as np
import pytest
import soundfile
import tensorflow as tf

from modules.audio import frontend, speech
from modules.audio.decoding import DEFAULT_LIMITS
from modules.audio.spec import AudioSpec
from tests.paths import RAVDESS, needs_corpora

RATE_HZ = 16_000
SAMPLES = round(3.5 * RATE_HZ)
TIME_SEC = np.arange(SAMPLES) / RATE_HZ


def noise(level: float) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal(SAMPLES)


def pink() -> np.ndarray:
    spectrum = np.fft.rfft(noise(1.0))
    return 0.01 * np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(spectrum.size), 1)), SAMPLES)


def clicks() -> np.ndarray:
    return 0.3 * noise(1.0) * np.exp(-((TIME_SEC % 0.5) / 0.01))


NO_SPEECH = {
    "digital silence": np.zeros(SAMPLES),
    "dither": np.rint(noise(0.6)) / 32_768,
    "hum": sum(0.1 / order * np.sin(2 * np.pi * 50 * order * TIME_SEC) for order in range(1, 12)),
    "constant offset": np.full(SAMPLES, 0.3),
    "tone": 0.3 * np.sin(2 * np.pi * 440 * TIME_SEC),
    "dial tone": 0.1 * (np.sin(2 * np.pi * 350 * TIME_SEC) + np.sin(2 * np.pi * 440 * TIME_SEC)),
    "sweep": 0.2 * np.sin(2 * np.pi * np.cumsum(np.linspace(100, 1_000, SAMPLES)) / RATE_HZ),
    "white noise": noise(0.1),
    "quiet white noise": noise(1e-3),
    "pink noise": pink(),
    "beeps": 0.1 * np.sin(2 * np.pi * 1_000 * TIME_SEC) * (TIME_SEC % 0.5 < 0.25),
    "clicks": clicks(),
}


def probabilities(windows, valid_samples, rate_hz=RATE_HZ):
    graph = tf.function(lambda *batch: speech.probabilities(*batch, rate_hz))
    return graph(tf.constant(np.asarray(windows, np.float32)), tf.constant(valid_samples, tf.int32)).numpy()


def clips():
    return [soundfile.read(path, dtype="float32") for path in sorted(RAVDESS.glob("Actor_*/*.flac"))[7::97]]


@pytest.mark.parametrize("kind", NO_SPEECH)
@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.5])
def test_steady_sounds_are_not_speech(kind, seconds):
    valid = round(seconds * RATE_HZ)
    window = np.where(np.arange(SAMPLES) < valid, NO_SPEECH[kind], 0)
    (probability,) = probabilities([window], [valid])
    assert probability < DEFAULT_LIMITS.min_speech


@pytest.mark.parametrize("kind", ["digital silence", "dither"])
def test_silence_has_the_probability_zero(kind):
    assert probabilities([NO_SPEECH[kind]], [SAMPLES]) == 0


@needs_corpora
@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
def test_speech_is_recognised_at_the_rate_of_the_model(rate_hz):
    spec = AudioSpec(sample_rate_hz=rate_hz)
    cut = [frontend.window_of_waveform(tf.constant(samples), native_hz, spec) for samples, native_hz in clips()]
    found = probabilities(
        np.stack([window.samples for window in cut]), np.stack([window.valid_samples for window in cut]), rate_hz
    )
    np.testing.assert_allclose([window.speech for window in cut], found, atol=1e-4)
    assert len(found) > 10
    assert np.mean(found >= DEFAULT_LIMITS.min_speech) >= 0.9
    assert found.max() <= 1


def test_a_window_has_the_same_probability_in_a_batch_and_alone():
    windows = [0.1 * NO_SPEECH["hum"], noise(0.1), NO_SPEECH["tone"], np.zeros(SAMPLES)]
    valid = [SAMPLES, 20_000, 1_600, SAMPLES]
    together, _ = speech.measures(tf.constant(np.asarray(windows, np.float32)), tf.constant(valid), RATE_HZ)
    for row, window, samples in zip(together.numpy(), windows, valid, strict=True):
        alone, _ = speech.measures(tf.constant([window], tf.float32), tf.constant([samples]), RATE_HZ)
        np.testing.assert_allclose(row, alone[0], atol=1e-3)


def test_padding_does_not_change_the_measures():
    short = noise(0.1)[:20_000]
    padded = np.pad(short, (0, SAMPLES - short.size))
    ours, _ = speech.measures(tf.constant([padded], tf.float32), tf.constant([short.size]), RATE_HZ)
    exact, _ = speech.measures(tf.constant([short], tf.float32), tf.constant([short.size]), RATE_HZ)
    np.testing.assert_allclose(ours, exact, atol=2e-3)


def test_every_measure_has_weights():
    assert tuple(speech.WEIGHTS) == speech.MEASURES
