"""Changes of recordings: what they do to sounds whose result is known."""

import numpy as np
import pytest
from scipy import signal

from modules.audio import changes
from modules.audio.changes import background, channel, length, level
from modules.audio.changes.room import Room, in_a_room
from modules.audio.decoding import Recording
from modules.evaluation.acceptance.conditions import CONDITIONS, REFERENCES

RATE_HZ = 16_000
ALL = {each.name: each.change for each in CONDITIONS} | REFERENCES


def tone(frequency_hz: float, length_sec: float = 2.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * frequency_hz * np.arange(round(length_sec * rate_hz)) / rate_hz)).astype("f4")


def changed(samples: np.ndarray, change: changes.Change, rate_hz: int = RATE_HZ, key: str = "clip") -> np.ndarray:
    voices = [tone(frequency_hz, 1.0, rate_hz) for frequency_hz in (200, 300, 400)]
    result, result_rate_hz = changes.changed(samples, rate_hz, change, key=key, voices=voices)
    assert result_rate_hz == rate_hz
    return result


def level_db(samples: np.ndarray, frequency_hz: float, rate_hz: int = RATE_HZ) -> float:
    """Return the level of a frequency in the middle of the samples."""
    part = samples[len(samples) // 4 : -len(samples) // 4].astype(np.float64)
    window = signal.windows.blackmanharris(len(part))
    turns = np.exp(-2j * np.pi * frequency_hz * np.arange(len(part)) / rate_hz)
    return float(20 * np.log10(abs(np.sum(window * part * turns)) / np.sum(window)))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("name", ALL)
def test_every_change_is_reproducible_at_every_rate(name, rate_hz):
    samples = tone(500, 1.0, rate_hz)
    first = changed(samples, ALL[name], rate_hz)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.abs(first).max() <= 1.001
    np.testing.assert_array_equal(first, changed(samples, ALL[name], rate_hz))


# Levels relative to 4 kHz of the filters that ser-tests publishes, read from their spectra.
@pytest.mark.parametrize(
    ("change", "levels_db"),
    [
        (channel.tilted_down, {500: 5.4, 1000: 4.8, 2000: 3.5, 6000: -6.1}),
        (channel.tilted_up, {500: -18.0, 1000: -12.0, 2000: -6.0, 6000: 3.5}),
    ],
)
def test_tilts_are_those_of_the_published_filters(change, levels_db):
    samples = sum(0.1 * tone(frequency_hz) for frequency_hz in (*levels_db, 4000))
    result = changed(samples, change)
    found = {hz: level_db(result, hz) - level_db(result, 4000) for hz in levels_db}
    assert found == pytest.approx(levels_db, abs=0.15)
    assert np.std(result) == pytest.approx(np.std(samples), rel=1e-3)
    assert len(result) == len(samples)


def test_small_cuts_and_zeros_have_the_published_lengths():
    samples = tone(500)
    cuts = {100, 500, 1000}
    keys = [str(number) for number in range(30)]
    by_name = {each.name: each.change for each in CONDITIONS}
    for name, sign in (("crop beginning", -1), ("crop end", -1), ("append zeros", 1), ("prepend zeros", 1)):
        found = {sign * (len(changed(samples, by_name[name], key=key)) - len(samples)) for key in keys}
        assert found == cuts, name
    np.testing.assert_array_equal(changed(samples, length.without_beginning(0.5)), samples[8000:])
    np.testing.assert_array_equal(changed(samples, length.without_end(0.5)), samples[:-8000])
    assert not changed(samples, length.before_silence(0.5))[-8000:].any()


def test_clipping_changes_the_share_of_samples():
    samples = np.random.default_rng(0).standard_normal(10_000).astype("f4") / 10
    result = changed(samples, level.clipped(0.01))
    assert np.mean(result != samples) == pytest.approx(0.01, abs=1e-3)


def test_full_scale_has_a_peak_of_one_and_the_same_shape():
    samples = tone(500)
    np.testing.assert_allclose(changed(samples, level.at_full_scale), samples / np.abs(samples).max(), rtol=1e-6)
    assert not changed(np.zeros(100, "f4"), level.at_full_scale).any()


def test_tone_has_the_ratio_of_the_peaks():
    samples = tone(500)
    added = changed(samples, background.with_tone((6000, 6000), 40)) - samples
    assert np.abs(added).max() == pytest.approx(0.4 / 100, rel=0.01)
    assert level_db(added, 6000) - level_db(added, 500) > 40


def test_pink_noise_loses_three_decibels_an_octave():
    samples = tone(500, 20.0)
    noise = changed(samples, background.with_pink_noise(20)) - samples
    frequencies_hz, powers = signal.welch(noise, RATE_HZ, nperseg=4096)
    at = [powers[(frequencies_hz > low) & (frequencies_hz < 2 * low)].mean() for low in (500, 1000, 2000)]
    assert np.diff(10 * np.log10(at)) == pytest.approx([-3, -3], abs=0.5)
    assert 10 * np.log10(np.mean(samples**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize(("cutoff_hz", "change"), [(100, channel.high_passed), (3000, channel.low_passed)])
def test_filters_lose_three_decibels_at_their_cutoff(cutoff_hz, change):
    samples = tone(cutoff_hz)
    lost_db = level_db(samples, cutoff_hz) - level_db(changed(samples, change(cutoff_hz)), cutoff_hz)
    assert lost_db == pytest.approx(3, abs=0.1)


def test_phone_keeps_speech_and_power_and_loses_high_frequencies():
    time_sec = np.arange(2 * RATE_HZ) / RATE_HZ
    voiced = sum(np.sin(2 * np.pi * 150 * harmonic * time_sec) / harmonic for harmonic in range(1, 40))
    samples = (0.1 * voiced * (1 + np.sin(2 * np.pi * 4 * time_sec))).astype("f4")
    result = changed(samples, channel.over_a_low_quality_phone)
    assert np.std(result) == pytest.approx(np.std(samples), rel=0.01)
    assert level_db(samples, 5250) - level_db(result, 5250) > 10  # AMR has 8 kHz
    spectra = [np.log(signal.spectrogram(each, RATE_HZ, nperseg=1024)[2][10:150].ravel()) for each in (samples, result)]
    assert np.corrcoef(*spectra)[0, 1] > 0.8


def test_room_has_its_reverberation_time_and_direct_sound():
    room = Room(volume_m3=92.8, reverberation_sec=0.43, distance_m=2.0)
    response = room.response(RATE_HZ, np.random.default_rng(0))
    assert response[0] == 1
    assert len(response) == round(0.43 * RATE_HZ)
    energies = np.cumsum(np.square(response[1:])[::-1])[::-1]  # Schroeder's backward integration
    decay_db = 10 * np.log10(energies / energies[0])
    within = (decay_db < -5) & (decay_db > -25)
    slope_db_per_sec = np.polyfit(np.flatnonzero(within) / RATE_HZ, decay_db[within], 1)[0]
    assert -60 / slope_db_per_sec == pytest.approx(0.43, rel=0.05)
    critical_m = 0.057 * np.sqrt(92.8 / 0.43)
    assert energies[0] == pytest.approx((2.0 / critical_m) ** 2)
    assert np.abs(changed(tone(500), in_a_room(room))).max() == pytest.approx(1)


def test_voices_are_those_of_other_speakers_at_the_rate():
    voices = changes.Voices({name: Recording(tone(500, 1.0), RATE_HZ) for name in ("a", "b", "c")})
    others = voices.without("b", 8000)
    assert [len(samples) for samples in others] == [8000, 8000]
    assert all(
        samples is original
        for samples, original in zip(
            voices.without("b", RATE_HZ), [voices._recordings[name].samples for name in ("a", "c")], strict=True
        )
    )
