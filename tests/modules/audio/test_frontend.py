import io

import numpy as np
import pytest
import soundfile
import soxr
import tensorflow as tf

from modules.audio.decoding import decode
from modules.audio.features import extract, valid_frames
from modules.audio.frontend import features_of_timeline, features_of_waveform, features_of_wavs, window_of_waveform
from modules.audio.resampling import resample
from modules.audio.speech import probabilities
from tests.modules.audio.windows import timeline_windows, window
from tests.original import ORIGINAL_AUDIO
from tests.paths import RAVDESS, needs_corpora

CLIPS = sorted(RAVDESS.glob("Actor_*/*.flac"))[11::121]
SPEC = ORIGINAL_AUDIO
LOGMEL = ORIGINAL_AUDIO.replace(feature_family="logmel")

WAVEFORM = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)]
of_waveform = tf.function(lambda *arguments: features_of_waveform(*arguments, SPEC), input_signature=WAVEFORM)
of_wavs = tf.function(
    lambda encoded: features_of_wavs(encoded, SPEC), input_signature=[tf.TensorSpec([None], tf.string)]
)


def encode(samples, rate_hz, subtype="PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype=subtype, format="WAV")
    return buffer.getvalue()


def sweep(rate_hz, duration_sec, channels=1):
    """Frequencies from 200 to 3 000 Hz, below half of every rate in the tests."""
    time_sec = np.arange(int(duration_sec * rate_hz)) / rate_hz
    phase = 2 * np.pi * (200 * time_sec + 1400 * time_sec**2 / duration_sec)
    return np.stack([0.4 * np.sin(phase + channel) for channel in range(channels)], axis=1).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("duration_sec", [0.1, 1.0, 2.9, 6.0])
def test_the_window_is_that_of_the_whole_recording_resampled(rate_hz, duration_sec):
    waveform = tf.constant(sweep(rate_hz, duration_sec)[:, 0])
    expected, expected_valid = window(resample(waveform, from_rate_hz=rate_hz, to_rate_hz=22_050), SPEC)
    cut = window_of_waveform(waveform, rate_hz, SPEC)
    assert int(cut.valid_samples) == int(expected_valid)
    np.testing.assert_allclose(cut.samples, expected, atol=2e-6)


@needs_corpora
def test_the_window_is_the_first_with_speech():
    spec = LOGMEL.replace(window_sec=2.0)
    sound = decode(CLIPS[0].read_bytes())
    dither = np.random.default_rng(0).normal(0, 1e-4, 8 * sound.sample_rate_hz).astype(np.float32)
    late, early = np.concatenate([dither, sound.samples]), np.concatenate([sound.samples, dither])
    found = window_of_waveform(tf.constant(late), sound.sample_rate_hz, spec)
    assert 5 < found.start_sec < 8 + sound.duration_sec
    assert found.speech >= 0.5
    first = window_of_waveform(tf.constant(early), sound.sample_rate_hz, spec)
    assert float(first.start_sec) == pytest.approx(spec.window_offset_sec)
    assert first.speech >= 0.5
    nothing = window_of_waveform(tf.constant(dither), sound.sample_rate_hz, spec)
    assert nothing.speech == 0
    assert float(nothing.start_sec) == pytest.approx(spec.window_offset_sec)

    wavs = [encode(samples[:, np.newaxis], sound.sample_rate_hz, "FLOAT") for samples in (late, early, dither)]
    batch = features_of_wavs(tf.constant(wavs), spec)
    np.testing.assert_allclose(batch.speech, [found.speech, first.speech, nothing.speech], atol=1e-3)
    expected = extract(found.samples[tf.newaxis], found.valid_samples[tf.newaxis], spec)[0]
    np.testing.assert_allclose(batch.features[0], expected, atol=1e-2)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_and_waveform_have_equal_features_in_the_graph(rate_hz, channels):
    encoded = encode(sweep(rate_hz, 3.0, channels), rate_hz)
    recording = decode(encoded)
    expected, expected_frames = of_waveform(recording.samples, recording.sample_rate_hz)
    extracted, frames, *_ = of_wavs([encoded])
    assert extracted.shape == (1, 270)
    assert int(frames[0]) == int(expected_frames)
    np.testing.assert_allclose(extracted[0], expected, rtol=1e-5, atol=1e-4)


def test_a_batch_may_mix_rates_lengths_and_channels():
    batch = [
        encode(sweep(48_000, 4.0, 2), 48_000),
        encode(sweep(8_000, 0.5), 8_000, "PCM_24"),
        encode(sweep(22_050, 2.5), 22_050, "FLOAT"),
    ]
    together, frames, _, errors = of_wavs(batch)
    assert errors.numpy().tolist() == [b""] * 3
    np.testing.assert_array_equal(frames, [108, 1 + 11_025 // 512, 108])
    for encoded, expected in zip(batch, together, strict=True):
        np.testing.assert_allclose(of_wavs([encoded])[0][0], expected, rtol=1e-5, atol=1e-4)


def test_one_bad_item_in_a_batch_has_an_error_alone():
    good = encode(sweep(8_000, 1.0), 8_000)
    extracted, frames, _, errors = of_wavs([good, good, good[:500], good])
    assert [error.decode().partition(":")[0] for error in errors.numpy()] == ["", "", "AUDIO_TRUNCATED", ""]
    alone = of_wavs([good])
    for index in (0, 1, 3):
        np.testing.assert_allclose(extracted[index], alone[0][0], rtol=1e-5, atol=1e-4)
        assert frames[index] == alone[1][0]


def test_an_empty_batch_gives_no_features():
    extracted, frames, speech, errors = of_wavs(tf.constant([], tf.string))
    assert errors.shape == (0,)
    assert extracted.shape == (0, 270)
    assert frames.shape == speech.shape == (0,)


@pytest.mark.parametrize("duration_sec", [0.4, 2.5, 7.3])
def test_timeline_features_are_those_of_its_windows(duration_sec):
    waveform = sweep(16_000, duration_sec)[:, 0]
    resampled = resample(tf.constant(waveform), from_rate_hz=16_000, to_rate_hz=22_050)
    windows, valid_samples, expected_starts = timeline_windows(resampled, LOGMEL, hop_sec=1.0)
    function = tf.function(lambda *arguments: features_of_timeline(*arguments, LOGMEL, 1.0), input_signature=WAVEFORM)
    extracted, frames, speech, starts = function(waveform, 16_000)
    np.testing.assert_array_equal(starts, expected_starts)
    np.testing.assert_allclose(speech, probabilities(windows, valid_samples, LOGMEL.sample_rate_hz), atol=1e-5)
    np.testing.assert_array_equal(frames, valid_frames(valid_samples, LOGMEL))
    np.testing.assert_allclose(extracted, extract(windows, valid_samples, LOGMEL), atol=1e-3)


def test_the_exported_graph_does_the_same_without_this_code(tmp_path):
    batch = [encode(sweep(48_000, 3.0), 48_000), encode(sweep(11_025, 1.0), 11_025)]
    module = tf.Module()
    module.of_wavs = of_wavs
    tf.saved_model.save(module, str(tmp_path), signatures=None)
    loaded = tf.saved_model.load(str(tmp_path))
    extracted, frames, *_ = loaded.of_wavs(tf.constant(batch))
    np.testing.assert_array_equal(frames, of_wavs(batch)[1])
    np.testing.assert_allclose(extracted, of_wavs(batch)[0], rtol=1e-6, atol=1e-5)
    first, second = loaded.of_wavs(tf.constant([batch[0], b"words"])).error.numpy()
    assert first == b""
    assert second.startswith(b"AUDIO_UNREADABLE: ")


@needs_corpora
@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_speech_sent_at_another_rate_has_the_same_features(rate_hz):
    """A client's file at its own rate against the recording at the spec's rate; soxr made the former.

    Compared is what two resamplers agree on: soxr takes away the last mel bands, which the zero crossings and, in
    silent frames, the chroma notice.
    """
    for path in CLIPS:
        recording = decode(path.read_bytes())
        sent = soxr.resample(recording.samples, recording.sample_rate_hz, rate_hz, quality="VHQ")
        at_spec_rate = of_waveform(recording.samples, recording.sample_rate_hz)[0].numpy()
        received = of_wavs([encode(sent, rate_hz, "FLOAT")])[0][0].numpy()
        np.testing.assert_allclose(received[1], at_spec_rate[1], rtol=1e-3, err_msg="RMS")
        np.testing.assert_allclose(received[14:134], at_spec_rate[14:134], rtol=1e-3, err_msg="mel power")
