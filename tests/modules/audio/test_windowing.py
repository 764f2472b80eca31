import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from modules.audio.windowing import recording_starts, window_start
from tests.modules.audio.windows import timeline_windows, window
from tests.original import ORIGINAL_AUDIO

SPEC = ORIGINAL_AUDIO.replace(
    sample_rate_hz=1000,
    window_offset_sec=0.3,
    window_sec=0.5,
    n_fft=64,
    hop_samples=16,
    mel_bands=8,
    mfcc_coefficients=8,
)


def ramp(samples):
    """Return a waveform whose values are their positions."""
    return np.arange(1, samples + 1, dtype=np.float32)


@pytest.mark.parametrize(
    ("samples", "start", "valid_samples"),
    [(2000, 300, 500), (800, 300, 500), (799, 299, 500), (600, 100, 500), (500, 0, 500), (499, 0, 499), (1, 0, 1)],
)
def test_a_window_starts_at_the_offset_or_earlier(samples, start, valid_samples):
    waveform = ramp(samples)
    cut, valid = window(tf.constant(waveform), SPEC)
    assert cut.shape == (500,)
    assert int(valid) == valid_samples
    np.testing.assert_array_equal(cut[:valid_samples], waveform[start : start + valid_samples])
    np.testing.assert_array_equal(cut[valid_samples:], 0)


@pytest.mark.parametrize(
    ("samples", "starts_sec"),
    [(300, [0]), (500, [0]), (501, [0, 0.001]), (700, [0, 0.2]), (1000, [0, 0.2, 0.4, 0.5]), (900, [0, 0.2, 0.4])],
)
def test_timeline_covers_the_recording_and_ends_with_it(samples, starts_sec):
    waveform = ramp(samples)
    windows, valid_samples, starts = timeline_windows(tf.constant(waveform), SPEC, hop_sec=0.2)
    np.testing.assert_allclose(starts, starts_sec, atol=1e-6)
    assert windows.shape == (len(starts_sec), 500)
    np.testing.assert_array_equal(valid_samples, min(samples, 500))
    np.testing.assert_array_equal(windows[:, 0], 1 + 1000 * np.array(starts_sec))
    assert windows[-1, valid_samples[-1] - 1] == waveform[-1]


def test_timeline_hop_below_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"hop_sec is 0\.0"):
        timeline_windows(tf.constant(ramp(1000)), SPEC, hop_sec=0.0)


@given(samples=st.integers(1, 40_000))
def test_windows_of_a_recording_cover_all_but_half_a_window(samples):
    starts = recording_starts(tf.constant(samples), SPEC).numpy()
    window, first = SPEC.window_samples, int(window_start(tf.constant(samples), SPEC))
    assert starts[0] == first
    beyond = samples - first - window
    if beyond < window // 2:
        assert len(starts) == 1
    else:
        assert starts[-1] == samples - window
        assert np.diff(starts).max() <= window
        assert len(starts) == 1 + -(-beyond // window)
