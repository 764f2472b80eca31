import itertools
import subprocess
import sys

import librosa
import numpy as np
import pytest

from modules.audio.augmentation import PLAIN, TRANSFORMS, augment, draw_plan
from modules.audio.augmentation.babble import Babble
from modules.audio.augmentation.coloured_noise import ColouredNoise
from modules.audio.augmentation.excerpt import Excerpt
from modules.audio.augmentation.noise import Noise
from modules.audio.augmentation.pitch import Pitch
from modules.audio.augmentation.shift import Shift
from modules.audio.augmentation.stretch import Stretch
from modules.audio.augmentation.telephone import CODECS, Telephone
from tests.original import ORIGINAL_AUGMENTATION

RATE_HZ = 22_050
WINDOW_SAMPLES = 55_125


def tone(frequency_hz, samples=WINDOW_SAMPLES):
    return np.sin(2 * np.pi * frequency_hz * np.arange(samples) / RATE_HZ).astype(np.float32) / 2


def loudest_frequency_hz(samples):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return np.argmax(spectrum) * RATE_HZ / len(samples)


def variants_of(window, *, valid_samples=None, seed=0, clip_id="ravdess/a.wav", **settings):
    made = augment(
        window,
        valid_samples=len(window) if valid_samples is None else valid_samples,
        sample_rate_hz=RATE_HZ,
        settings=ORIGINAL_AUGMENTATION.replace(**settings),
        seed=seed,
        clip_id=clip_id,
    )
    return {name: (samples, valid) for name, samples, valid in made}


def test_default_variants_are_the_originals():
    assert ORIGINAL_AUGMENTATION.variants == ("plain", "noise", "pitch", "pitch+noise")
    assert list(variants_of(tone(300))) == ["plain", "noise", "pitch", "pitch+noise"]


def test_plain_is_the_recording_itself():
    window = tone(300)
    samples, valid_samples = variants_of(window, variants=("plain",))["plain"]
    np.testing.assert_array_equal(samples, window)
    assert valid_samples == len(window)


@pytest.mark.parametrize("level", [0.01, 1.0])
def test_noise_has_the_same_deviation_however_loud_the_clip_is(level):
    window = np.float32(level) * tone(300)
    added = Noise(std=0.035, seed=1).apply(window, sample_rate_hz=RATE_HZ) - window
    assert added.std() == pytest.approx(0.035, rel=0.01)
    assert abs(added.mean()) < 1e-3


def test_every_clip_has_noise_of_its_own_at_the_set_deviation():
    settings = ORIGINAL_AUGMENTATION.replace(noise_std=0.02)
    noises = [Noise.draw(settings, np.random.default_rng(seed)) for seed in range(20)]
    assert {noise.std for noise in noises} == {0.02}
    assert len({noise.seed for noise in noises}) == 20


def snr_db(samples, changed):
    return 10 * np.log10(np.mean(samples**2) / np.mean((changed - samples) ** 2))


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 2.0])
def test_coloured_noise_has_its_colour_and_ratio(exponent):
    window = tone(300)
    changed = ColouredNoise(exponent=exponent, snr_db=12, seed=1).apply(window, sample_rate_hz=RATE_HZ)
    assert snr_db(window, changed) == pytest.approx(12, abs=0.01)
    power = np.abs(np.fft.rfft(changed - window)) ** 2
    low, high = (power[first : 2 * first].mean() for first in (500, 8000))  # bands four octaves apart
    assert np.log2(low / high) == pytest.approx(4 * exponent, abs=0.3)


def test_babble_has_its_ratio_and_is_not_the_clip():
    window = tone(300) * np.linspace(0, 1, WINDOW_SAMPLES, dtype=np.float32)
    changed = Babble(snr_db=6, seed=1).apply(window, sample_rate_hz=RATE_HZ)
    assert snr_db(window, changed) == pytest.approx(6, abs=0.01)
    assert abs(np.corrcoef(window, changed - window)[0, 1]) < 0.2


@pytest.mark.parametrize("codec", CODECS)
def test_the_telephone_keeps_its_band_alone(codec):
    low, inside, high = (
        np.std(Telephone(codec).apply(tone(frequency), sample_rate_hz=RATE_HZ)) for frequency in (60, 1000, 6000)
    )
    assert inside == pytest.approx(np.std(tone(1000)), rel=0.2)
    assert max(low, high) < 0.05 * inside


@pytest.mark.parametrize(("start_sec", "start"), [(-0.1, 12_315), (0.5, 25_545), (2.0, WINDOW_SAMPLES - RATE_HZ)])
def test_an_excerpt_starts_relative_to_the_sound_and_ends_within_the_clip(start_sec, start):
    window = np.concatenate([np.zeros(14_700, np.float32), tone(300)])[:WINDOW_SAMPLES]
    part = Excerpt(start_sec=start_sec, length_sec=1.0).apply(window, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(part, window[start : start + RATE_HZ])


@pytest.mark.parametrize("transform", ["coloured_noise", "babble"])
def test_ratios_are_drawn_within_the_limits(transform):
    settings = ORIGINAL_AUGMENTATION.replace(noise_snr_db=(5, 25), babble_snr_db=(5, 25))
    ratios = [draw_plan(transform, settings, seed=seed, clip_id="a.wav")[0].snr_db for seed in range(200)]
    assert 5 <= min(ratios) < 6
    assert 24 < max(ratios) <= 25


def test_a_silent_clip_stays_silent():
    silent = np.zeros(WINDOW_SAMPLES, np.float32)
    for transform in ("coloured_noise", "babble", "telephone"):
        assert np.abs(variants_of(silent, variants=(transform,))[transform][0]).max() < 1e-3


def test_pitch_rises_by_the_semitones_and_the_length_stays():
    shifted = Pitch(semitones=12).apply(tone(300), sample_rate_hz=RATE_HZ)
    assert len(shifted) == WINDOW_SAMPLES
    assert loudest_frequency_hz(shifted) == pytest.approx(600, rel=0.01)


def test_stretch_keeps_the_pitch_and_changes_the_length():
    stretched = Stretch(rate=0.8).apply(tone(300), sample_rate_hz=RATE_HZ)
    assert len(stretched) == pytest.approx(WINDOW_SAMPLES / 0.8, abs=1)
    assert loudest_frequency_hz(stretched) == pytest.approx(300, rel=0.01)


def test_shift_is_circular_and_in_milliseconds():
    shifted = Shift(offset_ms=10).apply(np.arange(1000, dtype=np.float32), sample_rate_hz=1000)
    np.testing.assert_array_equal(shifted[:12], [990, 991, 992, 993, 994, 995, 996, 997, 998, 999, 0, 1])


def test_shift_is_drawn_to_both_sides_within_the_limit():
    settings = ORIGINAL_AUGMENTATION.replace(shift_max_ms=100)
    offsets = [Shift.draw(settings, np.random.default_rng(seed)).offset_ms for seed in range(200)]
    assert -100 <= min(offsets) < -90
    assert 90 < max(offsets) <= 100


@pytest.mark.parametrize(("rate", "expected_valid"), [(0.8, 12_500), (2.0, 5_000), (0.1, WINDOW_SAMPLES)])
def test_valid_samples_follow_a_stretched_clip_up_to_the_window(rate, expected_valid):
    window = np.zeros(WINDOW_SAMPLES, np.float32)
    window[:10_000] = tone(300, 10_000)
    samples, valid_samples = variants_of(window, valid_samples=10_000, variants=("stretch",), stretch_rate=rate)[
        "stretch"
    ]
    assert valid_samples == pytest.approx(expected_valid, abs=1)
    assert samples.shape == window.shape
    assert not samples[valid_samples:].any()
    assert np.abs(samples[: valid_samples // 2]).max() > 0.1


def test_padding_is_not_augmented():
    window = np.zeros(WINDOW_SAMPLES, np.float32)
    window[:10_000] = tone(300, 10_000)
    for name, (samples, valid_samples) in variants_of(window, valid_samples=10_000).items():
        assert valid_samples == 10_000, name
        assert not samples[10_000:].any(), name


@pytest.mark.parametrize("variant", [PLAIN, *TRANSFORMS, "pitch+noise", "stretch+shift+pitch+noise"])
def test_every_variant_of_the_shortest_clip_is_usable(variant):
    window = np.zeros(WINDOW_SAMPLES, np.float32)
    window[:2_205] = tone(300, 2_205)
    samples, valid_samples = variants_of(window, valid_samples=2_205, variants=(variant,))[variant]
    assert samples.dtype == np.float32
    assert samples.shape == window.shape
    assert np.isfinite(samples).all()
    assert 0 < valid_samples <= WINDOW_SAMPLES


def test_composition_applies_its_transforms_from_left_to_right():
    window, settings = tone(300), ORIGINAL_AUGMENTATION.replace(variants=("pitch+noise",))
    pitch, noise = draw_plan("pitch+noise", settings, seed=0, clip_id="ravdess/a.wav")
    pitched = librosa.effects.pitch_shift(window, sr=RATE_HZ, n_steps=3)
    np.testing.assert_array_equal(pitch.apply(window, sample_rate_hz=RATE_HZ), pitched)
    expected = noise.apply(pitched, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(variants_of(window, variants=("pitch+noise",))["pitch+noise"][0], expected)


def test_a_shared_beginning_changes_nothing():
    window = tone(300)
    together = variants_of(window, variants=("pitch", "pitch+noise", "pitch+shift"))
    for variant, (samples, _) in together.items():
        np.testing.assert_array_equal(samples, variants_of(window, variants=(variant,))[variant][0])


def test_plans_depend_on_seed_clip_and_variant_alone():
    settings = ORIGINAL_AUGMENTATION
    keys = list(itertools.product((0, 1), ("ravdess/a.wav", "ravdess/b.wav"), ("noise", "pitch+noise")))
    plans = {key: draw_plan(key[2], settings, seed=key[0], clip_id=key[1]) for key in keys}
    assert len({plan[-1] for plan in plans.values()}) == len(keys)
    for (seed, clip_id, variant), plan in plans.items():
        assert draw_plan(variant, settings, seed=seed, clip_id=clip_id) == plan


def test_plans_are_the_same_in_another_process():
    code = (
        "from modules.audio.augmentation import *\n"
        "from tests.original import ORIGINAL_AUGMENTATION\n"
        "print(draw_plan('noise+shift', ORIGINAL_AUGMENTATION, seed=3, clip_id='ravdess/a.wav'))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = draw_plan("noise+shift", ORIGINAL_AUGMENTATION, seed=3, clip_id="ravdess/a.wav")
    assert printed.strip() == str(here)
