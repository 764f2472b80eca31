import librosa
import numpy as np
import pytest
import tensorflow as tf

from modules.audio.decoding import decode
from modules.audio.edge_operations import EDGE
from modules.audio.features import PADDING_DB, extract, feature_names, valid_frames
from tests.modules.audio.windows import window
from tests.original import ORIGINAL_AUDIO
from tests.paths import RAVDESS, needs_corpora

CLIPS = sorted(RAVDESS.glob("Actor_*/*.flac"))[7::59]  # about one of every actor, of all emotions

UTTERANCE = ORIGINAL_AUDIO
LOGMEL = ORIGINAL_AUDIO.replace(feature_family="logmel")
NARROW = ORIGINAL_AUDIO.replace(
    sample_rate_hz=16_000, window_sec=1.0, n_fft=400, hop_samples=160, mel_bands=40, mfcc_coefficients=13
)
PARTS = {"zcr": slice(0, 1), "rms": slice(1, 2), "chroma": slice(2, 14), "mel": slice(14, 142), "mfcc": slice(142, 270)}


def librosa_logmel(waveform, spec):
    """Return the log-mel spectrogram in dB, ``[frames, mel_bands]``."""
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=spec.sample_rate_hz, n_fft=spec.n_fft, hop_length=spec.hop_samples, n_mels=spec.mel_bands
    )
    return librosa.power_to_db(mel).T


def librosa_utterance(waveform, spec):
    """Return every feature by its own librosa call."""
    sizes = {"n_fft": spec.n_fft, "hop_length": spec.hop_samples}
    frames = {"frame_length": spec.n_fft, "hop_length": spec.hop_samples}
    rate_hz = spec.sample_rate_hz
    magnitude = np.abs(librosa.stft(waveform, **sizes))
    parts = [
        librosa.feature.zero_crossing_rate(waveform, **frames),
        librosa.feature.rms(y=waveform, **frames),
        librosa.feature.chroma_stft(S=magnitude, sr=rate_hz, tuning=0.0, n_fft=spec.n_fft),
        librosa.feature.melspectrogram(y=waveform, sr=rate_hz, n_mels=spec.mel_bands, **sizes),
        librosa.feature.mfcc(y=waveform, sr=rate_hz, n_mfcc=spec.mfcc_coefficients, n_mels=spec.mel_bands, **sizes),
    ]
    return np.concatenate([part.mean(axis=1) for part in parts])


def speech_like(samples, seed=0):
    """Return bursts of noise and of harmonics with a moving pitch."""
    rng = np.random.default_rng(seed)
    time_sec = np.arange(samples) / 22_050
    pitch_hz = 140 + 40 * np.sin(2 * np.pi * 1.3 * time_sec + seed)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / 22_050
    voice = sum(np.sin(number * phase) / number for number in range(1, 30))
    loudness = np.clip(np.sin(2 * np.pi * 2.1 * time_sec), 0, 1) ** 2
    return (0.1 * voice * loudness + 0.002 * rng.standard_normal(samples)).astype(np.float32)


def batch_of(waveforms, spec):
    windows, valid_samples = zip(*(window(tf.constant(waveform), spec) for waveform in waveforms), strict=True)
    return tf.stack(windows), tf.stack(valid_samples)


def windowed(waveforms, spec):
    """Return the sound in each window without padding, for librosa."""
    windows, valid_samples = batch_of(waveforms, spec)
    return [cut[:valid] for cut, valid in zip(windows.numpy(), valid_samples.numpy(), strict=True)]


def extract_all(waveforms, spec):
    windows, valid_samples = batch_of(waveforms, spec)
    return tf.function(lambda *arguments: extract(*arguments, spec))(windows, valid_samples).numpy()


def assert_utterance_agrees(ours, expected):
    for name in ("zcr", "rms", "chroma", "mel"):
        np.testing.assert_allclose(ours[:, PARTS[name]], expected[:, PARTS[name]], rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(ours[:, PARTS["mfcc"]], expected[:, PARTS["mfcc"]], atol=1e-2, rtol=0)


@pytest.fixture(scope="module")
def ravdess_waveforms():
    return [decode(path.read_bytes()).samples for path in CLIPS]


@pytest.fixture(scope="module", params=["synthetic", pytest.param("ravdess", marks=needs_corpora)])
def waveforms(request):
    """Recordings that fill the window, and shorter ones down to less than a frame."""
    if request.param == "ravdess":
        long = request.getfixturevalue("ravdess_waveforms")
        return long + [waveform[20_000 : 20_000 + 4000 * (number + 2)] for number, waveform in enumerate(long[:8])]
    return [speech_like(samples, seed) for seed, samples in enumerate((80_000, 55_125, 55_124, 30_000, 5_121, 1_500))]


def test_utterance_features_are_those_of_librosa(waveforms):
    expected = np.stack([librosa_utterance(waveform, UTTERANCE) for waveform in windowed(waveforms, UTTERANCE)])
    assert_utterance_agrees(extract_all(waveforms, UTTERANCE), expected)


def test_logmel_is_that_of_librosa_and_padding_beyond(waveforms):
    for ours, waveform in zip(extract_all(waveforms, LOGMEL), windowed(waveforms, LOGMEL), strict=True):
        expected = librosa_logmel(waveform, LOGMEL)
        np.testing.assert_allclose(ours[: len(expected)], expected, atol=1e-3, rtol=0)
        np.testing.assert_array_equal(ours[len(expected) :], np.float32(PADDING_DB))


@pytest.mark.parametrize("samples", [16_000, 9_999, 700])
def test_another_spec_agrees_too(samples):
    """Hop and frame length share a small divisor only, and the mel bands do not fill whole groups."""
    waveform = speech_like(samples)
    ours = extract_all([waveform], NARROW)[0]
    expected = librosa_utterance(waveform, NARROW)
    np.testing.assert_allclose(ours[:54], expected[:54], rtol=1e-4)
    np.testing.assert_allclose(ours[54:], expected[54:], atol=1e-2)


def test_valid_frames_are_the_frames_that_librosa_makes():
    for samples in (1500, 2047, 2048, 2560, 55_124, 55_125):
        frames = librosa.stft(np.zeros(samples, np.float32)).shape[1]
        assert int(valid_frames(tf.constant([samples]), UTTERANCE)[0]) == frames
    assert frames == UTTERANCE.window_frames


@pytest.mark.parametrize("spec", [UTTERANCE, LOGMEL], ids=lambda spec: spec.feature_family)
def test_samples_after_the_valid_ones_are_ignored(spec):
    windows, valid_samples = batch_of([speech_like(20_000)], spec)
    noisy = tf.where(tf.range(spec.window_samples) < valid_samples[:, tf.newaxis], windows, 0.3)
    np.testing.assert_array_equal(extract(noisy, valid_samples, spec), extract(windows, valid_samples, spec))


@pytest.mark.parametrize("n_fft", [2048, 400, 405, 401], ids=lambda n_fft: f"n_fft {n_fft}")
@pytest.mark.parametrize("spec", [UTTERANCE, LOGMEL], ids=lambda spec: spec.feature_family)
def test_operations_of_edge_runtimes_give_the_same_features(spec, n_fft):
    """Also with frames of odd and of prime lengths."""
    spec = spec.replace(n_fft=n_fft, hop_samples=max(n_fft // 4, 1), mel_bands=40, mfcc_coefficients=13)
    windows, valid_samples = batch_of([speech_like(samples) for samples in (80_000, 30_001, n_fft // 2)], spec)
    noisy = tf.where(tf.range(spec.window_samples) < valid_samples[:, tf.newaxis], windows, 0.3)
    ours, expected = extract(noisy, valid_samples, spec, EDGE), extract(windows, valid_samples, spec)
    np.testing.assert_allclose(ours, expected, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("spec", [UTTERANCE, LOGMEL], ids=lambda spec: spec.feature_family)
def test_a_clip_has_the_same_features_alone_and_in_a_batch(spec):
    clips = [speech_like(samples, seed=samples) for samples in (60_000, 20_000, 3_000)]
    together = extract_all(clips, spec)
    for clip, expected in zip(clips, together, strict=True):
        np.testing.assert_allclose(extract_all([clip], spec)[0], expected, rtol=1e-5, atol=1e-4)


def test_pauses_are_limited_to_80_db_below_the_loudest_cell():
    waveform = speech_like(55_125)
    waveform[20_000:40_000] = 0
    logmel = extract_all([waveform], LOGMEL)[0]
    np.testing.assert_allclose(logmel[50], logmel.max() - 80, atol=1e-4)


def test_digital_silence_inside_a_clip_gives_finite_features():
    waveform = speech_like(55_125)
    waveform[10_000:] = 0
    assert np.isfinite(extract_all([waveform], UTTERANCE)).all()


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-11, -5e-11])
def test_samples_that_count_as_zero_have_a_positive_sign(value):
    """After a positive sample, zeros do not cross; after a negative one, all do."""
    positive, negative = np.full(4096, 0.1, np.float32), np.full(4096, -0.1, np.float32)
    positive[::2] = negative[::2] = value
    rates = extract_all([positive, negative], UTTERANCE)[:, 0]
    expected = [librosa.feature.zero_crossing_rate(waveform).mean() for waveform in (positive, negative)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert expected[0] == 0
    assert expected[1] > 0.5


@pytest.mark.parametrize("spec", [UTTERANCE, LOGMEL, NARROW], ids=["utterance", "logmel", "narrow"])
def test_shapes_follow_the_spec_and_the_batch_may_be_unknown(spec):
    signature = [tf.TensorSpec([None, spec.window_samples], tf.float32), tf.TensorSpec([None], tf.int32)]
    function = tf.function(lambda *arguments: extract(*arguments, spec), input_signature=signature)
    assert function.get_concrete_function().structured_outputs.shape.as_list() == [None, *spec.feature_shape]
    assert function(tf.zeros([3, spec.window_samples]), tf.fill([3], 1000)).shape == (3, *spec.feature_shape)


def test_windows_of_another_length_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[1,55124\].*\[\?,55125\]"):
        extract(tf.zeros([1, 55_124]), tf.constant([55_124]), UTTERANCE)


def test_names_stand_in_the_order_of_the_features():
    names = feature_names(UTTERANCE)
    assert len(names) == len(set(names)) == 270
    firsts = {name: names[part][0] for name, part in PARTS.items()}
    assert firsts == {"zcr": "zcr", "rms": "rms", "chroma": "chroma_00", "mel": "mel_000", "mfcc": "mfcc_000"}
    assert names[-1] == "mfcc_127"
    assert feature_names(LOGMEL) == names[PARTS["mel"]]


def test_feature_names_match_their_features():
    """An A of 440 Hz lies in pitch class 9 counted from C, and in the mel band around 440 Hz."""
    waveform = np.sin(2 * np.pi * 440 * np.arange(55_125) / 22_050).astype(np.float32)
    values = dict(zip(feature_names(UTTERANCE), extract_all([waveform], UTTERANCE)[0], strict=True))
    assert max((name for name in values if name.startswith("chroma")), key=values.get) == "chroma_09"
    loudest = int(max((name for name in values if name.startswith("mel")), key=values.get).removeprefix("mel_"))
    assert librosa.mel_frequencies(n_mels=130, fmax=11_025)[loudest + 1] == pytest.approx(440, abs=30)
    assert values["rms"] == pytest.approx(np.sqrt(0.5), rel=0.02)
    assert values["zcr"] == pytest.approx(2 * 440 / 22_050, rel=0.02)
