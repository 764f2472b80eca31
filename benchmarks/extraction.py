"""Speed of feature extraction and resampling on one core: ``python -m benchmarks.extraction [--write FILE]``.

Every family's features are computed from the same clips by librosa, by kaldi-native-fbank where it is installed
(``pip install kaldi-native-fbank``), and by the project's extractor, clip by clip and in the batches of the ingestion.
The floor is a real FFT in single precision of ready-made frames and a product with the non-zero mel weights.
"""

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import librosa
import numpy as np
import tensorflow as tf

from benchmarks import command, document
from benchmarks.timing import median_seconds, use_one_core
from components.audio_example_gen.ingestion import EXAMPLES_PER_BATCH
from modules.audio import features, frontend, resampling
from modules.audio.decoding import decode
from modules.audio.encoder import whisper
from modules.audio.spec import AudioSpec
from pipeline.config import load_config

CLIPS = 32
FAMILIES = ("encoder_cnn", "attentive_crnn", "original_cnn")
NATIVE_RATES_HZ = (48_000, 44_100, 24_414, 22_050)  # RAVDESS, SAVEE, TESS, the former system
RESAMPLED_SEC = 4.0

Candidates = Mapping[str, Callable[[], object]]


class MelSpec(NamedTuple):
    """Parameters of a mel spectrogram.

    Attributes:
        rate_hz: Sample rate.
        n_fft: Samples of a frame and of its transform.
        hop_samples: Distance of two frames.
        bands: Number of mel bands.
    """

    rate_hz: int
    n_fft: int
    hop_samples: int
    bands: int


def mel_spec(spec: AudioSpec) -> MelSpec:
    """Return the parameters of the mel spectrogram that a family starts with."""
    if spec.feature_family == "encoder":
        return MelSpec(whisper.SAMPLE_RATE_HZ, whisper.N_FFT, whisper.HOP_SAMPLES, whisper.MEL_BANDS)
    return MelSpec(spec.sample_rate_hz, spec.n_fft, spec.hop_samples, spec.mel_bands)


def five_calls(waveform: np.ndarray, spec: AudioSpec) -> np.ndarray:
    """Return the 270 features from five calls of librosa with an STFT each; chroma estimates a tuning.

    Args:
        waveform: float32 ``[samples]``.
        spec: Audio spec of the features.
    """
    rate_hz = spec.sample_rate_hz
    magnitude = np.abs(librosa.stft(waveform))
    return np.hstack(
        [
            np.mean(librosa.feature.zero_crossing_rate(y=waveform).T, axis=0),
            np.mean(librosa.feature.rms(y=waveform).T, axis=0),
            np.mean(librosa.feature.chroma_stft(S=magnitude, sr=rate_hz).T, axis=0),
            np.mean(librosa.feature.melspectrogram(y=waveform, sr=rate_hz).T, axis=0),
            np.mean(librosa.feature.mfcc(y=waveform, sr=rate_hz, n_mfcc=spec.mfcc_coefficients).T, axis=0),
        ]
    )


def one_stft(waveform: np.ndarray, spec: AudioSpec) -> np.ndarray:
    """Return the same features from one STFT, with a fixed tuning."""
    rate_hz = spec.sample_rate_hz
    magnitude = np.abs(librosa.stft(waveform, n_fft=spec.n_fft, hop_length=spec.hop_samples))
    mel = librosa.feature.melspectrogram(S=magnitude**2, sr=rate_hz, n_mels=spec.mel_bands)
    return np.hstack(
        [
            librosa.feature.zero_crossing_rate(y=waveform).mean(axis=1),
            librosa.feature.rms(y=waveform).mean(axis=1),
            librosa.feature.chroma_stft(S=magnitude, sr=rate_hz, tuning=0.0).mean(axis=1),
            mel.mean(axis=1),
            librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=spec.mfcc_coefficients).mean(axis=1),
        ]
    )


def log_mel_by_librosa(waveform: np.ndarray, mel: MelSpec) -> np.ndarray:
    """Return the log-mel spectrogram of one call of librosa, in dB, ``[bands, frames]``."""
    power = librosa.feature.melspectrogram(
        y=waveform, sr=mel.rate_hz, n_fft=mel.n_fft, hop_length=mel.hop_samples, n_mels=mel.bands
    )
    return librosa.power_to_db(power)


def log_mel_by_kaldi(mel: MelSpec) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return a function that makes a log-mel spectrogram by kaldi-native-fbank; None where it is not installed."""
    try:
        import kaldi_native_fbank as kaldi
    except ImportError:
        return None
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = mel.rate_hz
    options.frame_opts.frame_length_ms = 1e3 * mel.n_fft / mel.rate_hz
    options.frame_opts.frame_shift_ms = 1e3 * mel.hop_samples / mel.rate_hz
    options.frame_opts.dither, options.frame_opts.window_type = 0.0, "hann"
    options.mel_opts.num_bins = mel.bands

    def log_mel(waveform: np.ndarray) -> np.ndarray:
        extractor = kaldi.OnlineFbank(options)
        extractor.accept_waveform(mel.rate_hz, waveform.tolist())
        extractor.input_finished()
        return np.stack([extractor.get_frame(number) for number in range(extractor.num_frames_ready)])

    return log_mel


def candidates(waveforms: np.ndarray, spec: AudioSpec) -> Candidates:
    """Return functions that compute a family's features of clips; the first is the one to compare with.

    Args:
        waveforms: float32 ``[CLIPS, spec.window_samples]``.
        spec: Audio spec of the family.
    """
    mel = mel_spec(spec)
    functions: dict[str, Callable[[], object]] = {}
    if spec.feature_family == "utterance":
        functions["librosa, five calls"] = lambda: [five_calls(waveform, spec) for waveform in waveforms]
        functions["librosa, one STFT"] = lambda: [one_stft(waveform, spec) for waveform in waveforms]
    else:
        functions["librosa, log-mel"] = lambda: [log_mel_by_librosa(waveform, mel) for waveform in waveforms]
        if by_kaldi := log_mel_by_kaldi(mel):
            functions["kaldi-native-fbank, log-mel"] = lambda: [by_kaldi(waveform) for waveform in waveforms]
    if spec.feature_family == "encoder":
        log_mel = tf.function(whisper.log_mel, input_signature=[tf.TensorSpec([None, None], tf.float32)])
        functions |= dict(_ours("ours, log-mel", lambda batch, _: log_mel(batch), waveforms))
        functions |= dict(_ours("ours, with the encoder's blocks", extractor(spec), waveforms))
    else:
        functions |= dict(_ours("ours", extractor(spec), waveforms))
    floor = mel_floor(mel)
    frames = [ready_made_frames(batch, mel) for batch in _batches(waveforms, EXAMPLES_PER_BATCH)]
    functions["floor"] = lambda: [floor(batch) for batch in frames]
    return functions


def _ours(
    name: str, extract: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], waveforms: np.ndarray
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield functions that extract clip by clip and in the batches of the ingestion."""
    for size in (1, EXAMPLES_PER_BATCH):
        batches = [tf.constant(batch) for batch in _batches(waveforms, size)]
        valid_samples = tf.fill([size], waveforms.shape[1])
        yield f"{name}, batch {size}", functools.partial(_extract_all, extract, batches, valid_samples)


def _extract_all(
    extract: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], batches: list[tf.Tensor], valid_samples: tf.Tensor
) -> list[np.ndarray]:
    return [extract(batch, valid_samples).numpy() for batch in batches]


def _batches(waveforms: np.ndarray, size: int) -> list[np.ndarray]:
    return [waveforms[start : start + size] for start in range(0, len(waveforms), size)]


def extractor(spec: AudioSpec) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the project's extractor as the ExampleGen uses it."""
    signature = [tf.TensorSpec([None, spec.window_samples], tf.float32), tf.TensorSpec([None], tf.int32)]
    return tf.function(
        lambda waveforms, valid_samples: features.extract(waveforms, valid_samples, spec), input_signature=signature
    )


def ready_made_frames(waveforms: np.ndarray, mel: MelSpec) -> tf.Tensor:
    """Return Hann-windowed frames, float32 ``[batch, frames, n_fft]``."""
    half = mel.n_fft // 2
    padded = tf.pad(waveforms, [[0, 0], [half, half]])
    return tf.signal.frame(padded, mel.n_fft, mel.hop_samples) * tf.signal.hann_window(mel.n_fft)


def mel_floor(mel: MelSpec) -> Callable[[tf.Tensor], np.ndarray]:
    """Return the floor: real FFT, power and sparse mel product of ready-made frames, ``[batch * frames, bands]``."""
    import scipy.sparse

    filters = librosa.filters.mel(sr=mel.rate_hz, n_fft=mel.n_fft, n_mels=mel.bands)
    weights = scipy.sparse.csc_array(filters.T)
    rfft = tf.function(tf.signal.rfft, input_signature=[tf.TensorSpec([None, None, mel.n_fft], tf.float32)])

    def mel_power(frames: tf.Tensor) -> np.ndarray:
        spectrum = rfft(frames).numpy().reshape(-1, filters.shape[1])
        return (np.square(spectrum.real) + np.square(spectrum.imag)) @ weights

    return mel_power


def load_clips(spec: AudioSpec, data: Path) -> np.ndarray:
    """Return windows of recordings spread over ``data``, float32 ``[CLIPS, window_samples]``."""
    paths = sorted(data.rglob("*.flac"))
    windows = []
    for path in itertools.islice(paths[:: max(1, len(paths) // CLIPS)], CLIPS):
        recording = decode(path.read_bytes())
        window = frontend.window_of_waveform(recording.samples, recording.sample_rate_hz, spec)
        windows.append(window.samples.numpy())
    return np.stack(windows)


def resamplers(from_rate_hz: int, to_rate_hz: int) -> Candidates:
    """Return functions that resample noise of :data:`RESAMPLED_SEC`, ours and soxr's."""
    import soxr

    samples = 0.1 * np.random.default_rng(0).standard_normal(round(RESAMPLED_SEC * from_rate_hz))
    waveform = samples.astype(np.float32)
    tensor = tf.constant(waveform)
    rate_hz = tf.constant(from_rate_hz)
    ours = tf.function(
        lambda waveform, rate_hz: resampling.resample(waveform, from_rate_hz=rate_hz, to_rate_hz=to_rate_hz)
    )
    return {
        "soxr": lambda: soxr.resample(waveform, from_rate_hz, to_rate_hz, quality="HQ"),
        "ours": lambda: ours(tensor, rate_hz).numpy(),
    }


def to_rows(family: str, seconds: Mapping[str, float]) -> list[list[str]]:
    """Return the rows of a family.

    Args:
        family: Name of the family.
        seconds: Duration for :data:`CLIPS` clips by candidate: the one to compare with first, the floor last.
    """
    first, *_, floor = seconds.values()
    return [
        [family, name, f"{1e3 * each / CLIPS:.2f}", f"{first / each:.1f}", f"{each / floor:.2f}"]
        for name, each in seconds.items()
    ]


def main() -> None:
    """Time the candidates and print the tables."""
    parser = command.make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    use_one_core()
    timed = functools.partial(median_seconds, rounds=options.rounds, clock=time.process_time)
    rows = []
    target_rates_hz = set()
    for family in FAMILIES:
        spec = load_config(overrides=[f"training.family={family}"]).audio
        target_rates_hz.add(spec.sample_rate_hz)
        rows += to_rows(f"`{family}`", timed(candidates(load_clips(spec, options.data), spec)))
    resampled = []
    for from_rate_hz, to_rate_hz in itertools.product(NATIVE_RATES_HZ, sorted(target_rates_hz)):
        if from_rate_hz != to_rate_hz:
            seconds = timed(resamplers(from_rate_hz, to_rate_hz))
            milliseconds = [f"{1e3 * seconds[name]:.2f}" for name in ("soxr", "ours")]
            ratio = f"{seconds['ours'] / seconds['soxr']:.2f}"
            resampled.append([f"{from_rate_hz:,}", f"{to_rate_hz:,}", *milliseconds, ratio])
    scope = f"\n{CLIPS} clips, one core, CPU time, medians of {options.rounds} interleaved rounds."
    heads = ["family", "by", "ms per clip", "speed-up", "x floor"]
    resampling_heads = ["from Hz", "to Hz", "soxr HQ, ms", "ours, ms", "ours / soxr"]
    tables = {
        "extraction": document.table(heads, rows) + scope,
        "resampling": document.table(resampling_heads, resampled) + f"\n{RESAMPLED_SEC:g} s of noise, timed as above.",
    }
    command.publish(tables, options.write)


if __name__ == "__main__":
    main()
