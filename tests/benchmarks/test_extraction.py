import numpy as np
import pytest

from benchmarks import extraction
from tests.original import ORIGINAL_AUDIO

CHROMA = slice(2, 14)  # where a tuning makes the difference


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    seconds = np.arange(ORIGINAL_AUDIO.window_samples) / ORIGINAL_AUDIO.sample_rate_hz
    noise = np.random.default_rng(0).normal(size=seconds.size)
    return (0.3 * np.sin(2 * np.pi * 330 * seconds) + 0.01 * noise).astype(np.float32)


def test_all_candidates_compute_the_same_features(waveform):
    spec = ORIGINAL_AUDIO
    five, one = extraction.five_calls(waveform, spec), extraction.one_stft(waveform, spec)
    ours = extraction.extractor(spec)(waveform[np.newaxis], np.array([spec.window_samples], np.int32)).numpy()[0]
    assert five.shape == one.shape == ours.shape == spec.feature_shape
    np.testing.assert_allclose(one, ours, rtol=1e-3, atol=1e-3)
    others = np.ones(five.size, dtype=bool)
    others[CHROMA] = False
    np.testing.assert_allclose(five[others], one[others], rtol=1e-3, atol=1e-3)


def test_the_floor_is_the_mel_part_of_the_work(waveform):
    import librosa

    spec = ORIGINAL_AUDIO
    frames = extraction.ready_made_frames(waveform[np.newaxis], spec)
    mel_power = extraction.rfft_and_mel(spec)(frames).numpy()[0]
    expected = librosa.feature.melspectrogram(
        y=waveform, sr=spec.sample_rate_hz, n_fft=spec.n_fft, hop_length=spec.hop_samples, n_mels=spec.mel_bands
    )
    np.testing.assert_allclose(mel_power, expected.T, rtol=1e-3, atol=1e-4)


def test_table_compares_with_the_original_and_with_the_floor():
    seconds = {"five calls": 0.32, "ours, batch of 1": 0.08, "ours, batch of 32": 0.04, "floor": 0.016}
    *_, ours, _, _, scope = extraction.to_markdown(seconds, "32 clips.").splitlines()
    assert ours == "| ours, batch of 32 | 1.25 | 8.0 | 2.50 |"
    assert scope.startswith("32 clips. Ours in a batch of 32: 8.0 times as fast as the five calls (goal: 10), 2.50 x")
