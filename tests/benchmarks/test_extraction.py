import numpy as np
import pytest

from benchmarks import extraction
from pipeline.config import load_config
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

    mel = extraction.mel_spec(ORIGINAL_AUDIO)
    frames = extraction.ready_made_frames(waveform[np.newaxis], mel)
    expected = librosa.feature.melspectrogram(
        y=waveform, sr=mel.rate_hz, n_fft=mel.n_fft, hop_length=mel.hop_samples, n_mels=mel.bands
    )
    np.testing.assert_allclose(extraction.mel_floor(mel)(frames), expected.T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["attentive_crnn", "original_cnn"])
def test_every_candidate_runs(family):
    spec = load_config(overrides=[f"training.family={family}"]).audio
    waveforms = np.random.default_rng(0).normal(size=(extraction.EXAMPLES_PER_BATCH, spec.window_samples))
    made = {name: run() for name, run in extraction.candidates(waveforms.astype(np.float32), spec).items()}
    assert {len(made[name]) for name in made if name.endswith("batch 1")} == {len(waveforms)}
    assert {len(made[name]) for name in made if name.endswith(f"batch {extraction.EXAMPLES_PER_BATCH}")} == {1}


def test_rows_compare_with_the_first_candidate_and_with_the_floor():
    seconds = {"five calls": 0.32, "ours, batch 1": 0.08, "ours, batch 8": 0.04, "floor": 0.016}
    *_, ours, _ = extraction.to_rows("`small`", seconds)
    assert ours == ["`small`", "ours, batch 8", "1.25", "8.0", "2.50"]


def test_both_resamplers_give_the_same_length():
    made = extraction.resamplers(44_100, 16_000)
    assert made["soxr"]().shape == made["ours"]().shape == (64_000,)
