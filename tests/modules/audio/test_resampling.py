import numpy as np
import pytest
import soxr
import tensorflow as tf

from modules.audio.resampling import resample, resample_range

TO_HZ = 22_050


def noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def tone(frequency_hz, *, rate_hz, duration_sec=2.0):
    return np.sin(2 * np.pi * frequency_hz * np.arange(int(duration_sec * rate_hz)) / rate_hz).astype(np.float32)


def level_db(waveform, *, rate_hz=TO_HZ):
    """Return the level relative to a full-scale sine, without the ends, where an abrupt start makes a tone impure."""
    middle = waveform[rate_hz // 4 : -rate_hz // 4]
    return 20 * np.log10(np.sqrt(2 * np.mean(np.square(middle))) + 1e-12)


def to_spec_rate(waveform, rate_hz):
    return resample(tf.constant(waveform), from_rate_hz=tf.constant(rate_hz), to_rate_hz=TO_HZ).numpy()


def band_levels_db(waveform, highest_hz, band_hz=100):
    power = np.square(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))))
    bin_hz = TO_HZ / len(waveform)
    edges = (np.arange(0, highest_hz + 1, band_hz) / bin_hz).astype(int)
    return 10 * np.log10(np.add.reduceat(power, edges)[:-1])


@pytest.mark.parametrize("rate_hz", [48_000, 44_100, 96_000, 192_000, 44_056, 24_000, 16_000, 11_025, 8_000])
def test_spectrum_agrees_with_soxr_hq(rate_hz):
    waveform = noise(3 * rate_hz)
    expected = soxr.resample(waveform, rate_hz, TO_HZ, quality="HQ")
    highest_hz = min(9_000, int(0.9 * rate_hz / 2) // 100 * 100)
    ours = band_levels_db(to_spec_rate(waveform, rate_hz), highest_hz)
    np.testing.assert_allclose(ours, band_levels_db(expected, highest_hz), atol=0.1)


@pytest.mark.parametrize("rate_hz", [48_000, 44_100, 16_000, 8_000])
def test_waveform_agrees_with_soxr_hq_within_the_pass_band(rate_hz):
    """The phase agrees too: the difference lies 60 dB below the sound."""
    spectrum = np.fft.rfft(noise(2 * rate_hz) * np.hanning(2 * rate_hz))
    spectrum[np.fft.rfftfreq(2 * rate_hz, 1 / rate_hz) > 3_400] = 0
    waveform = np.fft.irfft(spectrum).astype(np.float32)
    expected = soxr.resample(waveform, rate_hz, TO_HZ, quality="HQ")
    ours = to_spec_rate(waveform, rate_hz)
    assert np.std(ours - expected) < 1e-3 * np.std(expected)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_051, 44_100, 48_000, 192_000])
def test_a_1_khz_tone_survives(rate_hz):
    assert level_db(to_spec_rate(tone(1_000, rate_hz=rate_hz), rate_hz)) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("frequency_hz", [11_500, 15_000, 20_000])
def test_tones_that_the_new_rate_cannot_hold_vanish(frequency_hz):
    assert level_db(to_spec_rate(tone(frequency_hz, rate_hz=48_000), 48_000)) < -60


@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_upsampling_makes_no_images(rate_hz):
    upsampled = to_spec_rate(tone(3_000, rate_hz=rate_hz), rate_hz)
    middle = upsampled[TO_HZ // 4 : -TO_HZ // 4]
    power = np.square(np.abs(np.fft.rfft(middle * np.blackman(len(middle)))))
    above = np.fft.rfftfreq(len(middle), 1 / TO_HZ) > 3_500
    assert 10 * np.log10(power[above].sum() / power.sum()) < -90


@pytest.mark.parametrize("rate_hz", [7_919, 8_000, 22_049, 22_050, 44_100, 48_000, 96_001])
@pytest.mark.parametrize("samples", [1, 999, 12_345])
def test_any_whole_rate_gives_the_rounded_up_length(rate_hz, samples):
    assert len(to_spec_rate(noise(samples), rate_hz)) == -(-samples * TO_HZ // rate_hz)


def test_equal_rates_change_nothing():
    waveform = noise(5000)
    np.testing.assert_array_equal(to_spec_rate(waveform, TO_HZ), waveform)


@pytest.mark.parametrize("rate_hz", [22_050, 8_000, 44_100, 48_000, 44_101])
@pytest.mark.parametrize(("start", "size"), [(0, 100), (3, 30_000), (40_001, 55_125), (100_000, 32_300)])
def test_a_range_is_that_part_of_the_whole(rate_hz, start, size):
    waveform = tf.constant(noise(6 * rate_hz))
    rates = {"from_rate_hz": tf.constant(rate_hz), "to_rate_hz": TO_HZ}
    whole = resample(waveform, **rates).numpy()
    part = resample_range(waveform, start=tf.constant(start, tf.int64), size=tf.constant(size, tf.int64), **rates)
    np.testing.assert_allclose(part, whole[start : start + size], atol=2e-6)


def test_nothing_wraps_round_the_ends():
    """The transform is circular: a click at one end must not appear at the other."""
    waveform = np.zeros(48_000, np.float32)
    waveform[-1] = 1
    resampled = to_spec_rate(waveform, 48_000)
    assert np.abs(resampled[: TO_HZ // 2]).max() < 1e-5
