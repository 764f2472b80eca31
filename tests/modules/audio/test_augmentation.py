import concurrent.futures
import hashlib
import itertools
import os
import subprocess
import sys

import librosa
import numpy as np
import pyroomacoustics
import pytest
from scipy import signal

from modules.audio.augmentation import PLAIN, TRANSFORMS, augment, draw_plan
from modules.audio.augmentation.babble import Babble
from modules.audio.augmentation.clipping import Clipping
from modules.audio.augmentation.codec import Codec
from modules.audio.augmentation.coloured_noise import ColouredNoise
from modules.audio.augmentation.excerpt import Excerpt
from modules.audio.augmentation.gain import Gain
from modules.audio.augmentation.hum import Hum
from modules.audio.augmentation.music import Music
from modules.audio.augmentation.noise import Noise
from modules.audio.augmentation.pitch import Pitch
from modules.audio.augmentation.room import Room
from modules.audio.augmentation.shift import Shift
from modules.audio.augmentation.stretch import Stretch
from modules.audio.augmentation.telephone import CODECS, Telephone
from modules.audio.augmentation.tilt import Tilt
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


ROOM = Room((7.0, 5.0, 3.0), reverberation_sec=0.5, speaker_m=(2.0, 3.0, 1.5), microphone_m=(3.0, 2.0, 1.2))


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 48_000])
def test_a_room_adds_reflections_after_the_direct_sound_and_no_delay(rate_hz):
    pulse = np.zeros(rate_hz, np.float32)
    pulse[1000] = 0.5
    wet = ROOM.apply(pulse, sample_rate_hz=rate_hz)
    assert np.argmax(np.abs(wet)) == 1000
    assert np.sum(wet**2) == pytest.approx(np.sum(pulse**2), rel=1e-3)
    before, after = (np.sum(part**2) for part in (wet[:990], wet[1000 + rate_hz // 100 :]))
    assert before < 0.01 * after


@pytest.mark.parametrize("reverberation_sec", [0.2, 0.4, 0.6])
def test_a_room_decays_in_its_reverberation_time(reverberation_sec):
    room = Room(ROOM.size_m, reverberation_sec, ROOM.speaker_m, ROOM.microphone_m)
    measured = pyroomacoustics.experimental.measure_rt60(room.response(16_000)[0], 16_000, decay_db=20)
    assert measured == pytest.approx(reverberation_sec, rel=0.2)


def test_speaker_and_microphone_are_drawn_inside_of_the_room_and_near_each_other():
    rooms = [draw_plan("room", ORIGINAL_AUGMENTATION, seed=seed, clip_id="a.wav")[0] for seed in range(500)]
    places = np.array([(room.size_m, room.speaker_m, room.microphone_m) for room in rooms])
    sizes, speakers, microphones = places.transpose(1, 0, 2)
    assert np.all((places[:, 1:] > 0.49) & (places[:, 1:] < sizes[:, None] - 0.49))
    distances = np.linalg.norm(speakers - microphones, axis=1)
    assert 2 < distances.max() < 2.5001
    assert np.median(distances) > 1
    assert max(pyroomacoustics.inverse_sabine(room.reverberation_sec, room.size_m)[0] for room in rooms) < 1


@pytest.mark.parametrize("slope_db", [-3.0, 4.0])
def test_tilt_has_its_slope_and_limits_without_a_delay_and_keeps_the_power(slope_db):
    noise = np.random.default_rng(0).standard_normal(WINDOW_SAMPLES).astype(np.float32) / 20
    tilted = Tilt(slope_db, high_pass_hz=100, low_pass_hz=8000).apply(noise, sample_rate_hz=RATE_HZ)
    assert tilted.std() == pytest.approx(noise.std(), rel=0.01)
    hz, across = signal.csd(noise, tilted, RATE_HZ, nperseg=2048)
    gain = across / signal.welch(noise, RATE_HZ, nperseg=2048)[1]

    def gain_db(frequency_hz):
        return 20 * np.log10(np.abs(gain[np.argmin(np.abs(hz - frequency_hz))]))

    assert gain_db(2000) - gain_db(500) == pytest.approx(2 * slope_db, abs=0.5)
    assert gain_db(50) - gain_db(500) < -3.3 * slope_db - 9
    assert np.abs(np.angle(gain[5:700])).max() < 0.2


def sweeps():
    """Return breathy tones that rise from 200 to 3000 Hz three times, softly at both ends."""
    seconds = np.arange(WINDOW_SAMPLES) / RATE_HZ
    breath = np.random.default_rng(0).standard_normal(WINDOW_SAMPLES) / 10
    swept = signal.chirp(seconds % 0.8, 200, 0.8, 3000) + breath
    return (swept * np.sin(np.pi * seconds / 0.8) ** 2 / 2).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_codecs_change_the_sound_and_leave_no_delay(seed):
    window = sweeps()
    (codec,) = draw_plan("codec", ORIGINAL_AUGMENTATION, seed=seed, clip_id="a.wav")
    received = codec.apply(window, sample_rate_hz=RATE_HZ)
    assert len(received) == len(window)
    assert np.argmax(signal.correlate(received, window)) == len(window) - 1
    assert 0.001 < 1 - np.corrcoef(received, window)[0, 1] < 0.4


def test_every_codec_is_drawn():
    drawn = [draw_plan("codec", ORIGINAL_AUGMENTATION, seed=seed, clip_id="a.wav")[0] for seed in range(12)]
    assert {codec.name for codec in drawn} == {"OPUS", "MPEG_LAYER_III", "VORBIS"}
    assert all(isinstance(codec, Codec) for codec in drawn)


def test_hum_has_its_ratios_and_frequencies():
    window = tone(300)
    hum = Hum(mains_hz=50, snr_db=20, whine_hz=3000, whine_snr_db=30, seed=1)
    added = hum.apply(window, sample_rate_hz=RATE_HZ) - window
    hz, power = signal.periodogram(added, RATE_HZ, window="hann")
    whine = np.abs(hz - 3000) < 5
    harmonics = np.abs(hz / 50 - np.round(hz / 50)) < 0.1
    assert 10 * np.log10(np.sum(power[~whine]) / np.sum(power[whine])) == pytest.approx(10, abs=0.2)
    assert np.sum(power[~harmonics]) < 1e-3 * np.sum(power)
    assert np.sum(power[hz > 650][~whine[hz > 650]]) < 1e-3 * np.sum(power)
    assert 10 * np.log10(np.mean(window**2) / np.mean(added**2)) == pytest.approx(20 - 10 * np.log10(1.1), abs=0.1)


@pytest.mark.parametrize("rate_hz", [1000, 8000])
def test_hum_and_music_leave_out_what_a_rate_cannot_hold(rate_hz):
    window = np.sin(np.arange(2 * rate_hz) / 5).astype(np.float32)
    changes = (Hum(60, 20, 4400, 20, seed=1), Music(300, 10, seed=1))
    for changed in (change.apply(window, sample_rate_hz=rate_hz) for change in changes):
        assert np.isfinite(changed).all()
        assert not np.array_equal(changed, window)


def test_music_has_its_ratio_and_the_notes_of_its_scale():
    window = tone(300)
    added = Music(root_hz=200, snr_db=10, seed=2).apply(window, sample_rate_hz=RATE_HZ) - window
    assert np.mean(window**2) / np.mean(added**2) == pytest.approx(10, rel=0.01)
    semitones = 12 * np.log2(loudest_frequency_hz(added) / 200)
    assert min(abs(semitones - note) for note in (0, 3, 5, 7, 10, 12)) < 0.2


def test_clipping_limits_the_peak_to_its_share_and_to_full_scale():
    window = sweeps()
    clipped = Clipping(gain_db=6, share=0.5).apply(window, sample_rate_hz=RATE_HZ)
    assert np.abs(clipped).max() == pytest.approx(0.5 * 10**0.3 * np.abs(window).max(), rel=1e-3)
    inside = np.abs(window) < 0.4 * np.abs(window).max()
    np.testing.assert_allclose(clipped[inside], window[inside] * 10**0.3, rtol=1e-5)
    louder = Clipping(gain_db=6, share=0.9).apply(2 * window, sample_rate_hz=RATE_HZ)
    assert np.abs(louder).max() == 1


def test_gain_amplifies_up_to_full_scale():
    window = sweeps()
    np.testing.assert_allclose(Gain(-6).apply(window, sample_rate_hz=RATE_HZ), window * 10**-0.3, rtol=1e-5)
    assert np.abs(Gain(25).apply(window, sample_rate_hz=RATE_HZ)).max() == 1


def digest_of(transform):
    (change,) = draw_plan(transform, ORIGINAL_AUGMENTATION, seed=5, clip_id="a.wav")
    return hashlib.sha256(change.apply(sweeps(), sample_rate_hz=RATE_HZ).tobytes()).hexdigest()


def test_copies_are_the_same_in_every_thread_and_process_and_order():
    """The other process uses other numbers of threads where libraries let one choose."""
    one_by_one = [digest_of(transform) for transform in TRANSFORMS]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(digest_of, 3 * TRANSFORMS)) == 3 * one_by_one
    code = (
        "from tests.modules.audio.test_augmentation import *\n"
        "print([digest_of(transform) for transform in reversed(TRANSFORMS)][::-1])"
    )
    environment = os.environ | {"PRA_NUM_THREADS": "3", "OMP_NUM_THREADS": "3"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert printed.stdout.strip() == str(one_by_one)


@pytest.mark.parametrize("transform", ["coloured_noise", "babble"])
def test_ratios_are_drawn_within_the_limits(transform):
    settings = ORIGINAL_AUGMENTATION.replace(noise_snr_db=(5, 25), babble_snr_db=(5, 25))
    ratios = [draw_plan(transform, settings, seed=seed, clip_id="a.wav")[0].snr_db for seed in range(200)]
    assert 5 <= min(ratios) < 6
    assert 24 < max(ratios) <= 25


def test_a_silent_clip_stays_silent():
    silent = np.zeros(WINDOW_SAMPLES, np.float32)
    for transform in ("coloured_noise", "babble", "telephone", "room", "tilt", "codec", "hum", "music", "clipping"):
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
