"""Speed of feature extraction on the same clips and one core: ``python -m benchmarks.extraction``.

The candidates: five librosa calls with an STFT and a tuning estimate of their own (how these 270 features are usually
computed), librosa on one shared STFT, ours at two batch sizes, and the floor: a batched real FFT of ready-made frames
and the mel matrix product, which no extractor that has both can undercut by much. ``--write`` puts the table into a
document.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import librosa
import numpy as np
import tensorflow as tf

from benchmarks import command, document
from benchmarks.timing import median_seconds, use_one_core
from modules.audio import features, frontend
from modules.audio.decoding import decode
from modules.audio.spec import AudioSpec
from pipeline.config import load_config

BATCH = 32


def five_calls(waveform: np.ndarray, spec: AudioSpec) -> np.ndarray:
    """Return features from five calls with an STFT each; chroma estimates a tuning.

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


def candidates(waveforms: np.ndarray, spec: AudioSpec) -> dict[str, Callable[[], object]]:
    """Return functions that compute the features of ``waveforms``, float32 ``[BATCH, spec.window_samples]``."""
    valid_samples = tf.fill([BATCH], spec.window_samples)
    batch = tf.constant(waveforms)
    singles = [batch[number : number + 1] for number in range(BATCH)]
    ours = extractor(spec)
    floor, frames = rfft_and_mel(spec), ready_made_frames(waveforms, spec)
    return {
        "librosa, five calls": lambda: [five_calls(waveform, spec) for waveform in waveforms],
        "librosa, one STFT": lambda: [one_stft(waveform, spec) for waveform in waveforms],
        "ours, batch 1": lambda: [ours(single, valid_samples[:1]).numpy() for single in singles],
        f"ours, batch {BATCH}": lambda: ours(batch, valid_samples).numpy(),
        f"floor: rFFT + mel, batch {BATCH}": lambda: floor(frames).numpy(),
    }


def extractor(spec: AudioSpec) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the project's extractor as the ExampleGen uses it."""
    signature = [tf.TensorSpec([None, spec.window_samples], tf.float32), tf.TensorSpec([None], tf.int32)]
    return tf.function(
        lambda waveforms, valid_samples: features.extract(waveforms, valid_samples, spec), input_signature=signature
    )


def ready_made_frames(waveforms: np.ndarray, spec: AudioSpec) -> tf.Tensor:
    """Return Hann-windowed frames, float32 ``[BATCH, frames, n_fft]``."""
    half = spec.n_fft // 2
    padded = tf.pad(waveforms, [[0, 0], [half, half]])
    return tf.signal.frame(padded, spec.n_fft, spec.hop_samples) * tf.signal.hann_window(spec.n_fft)


def rfft_and_mel(spec: AudioSpec) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the floor: real FFT, power and dense mel matrix product of ready-made frames."""
    filters = librosa.filters.mel(sr=spec.sample_rate_hz, n_fft=spec.n_fft, n_mels=spec.mel_bands)
    mel = tf.constant(filters.T)

    @tf.function(input_signature=[tf.TensorSpec([None, None, spec.n_fft], tf.float32)])
    def mel_power(frames: tf.Tensor) -> tf.Tensor:
        spectrum = tf.signal.rfft(frames)
        return tf.matmul(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)), mel)

    return mel_power


def load_clips(spec: AudioSpec, data: Path) -> np.ndarray:
    """Return the first full windows of recordings, float32 ``[BATCH, window_samples]``."""
    paths = sorted(data.rglob("*.flac"))
    windows = []
    for path in paths[:: max(1, len(paths) // (2 * BATCH))]:
        recording = decode(path.read_bytes())
        window = frontend.window_of_waveform(recording.samples, recording.sample_rate_hz, spec)
        if window.valid_samples == spec.window_samples:
            windows.append(window.samples.numpy())
    return np.stack(windows[:BATCH])


def to_markdown(seconds: Mapping[str, float], scope: str) -> str:
    """Return the table, its scope and the two ratios that have goals.

    Args:
        seconds: Duration for :data:`BATCH` clips by candidate: the original first, ours and the floor last.
        scope: Description of the measurement.
    """
    original, *_, ours, floor = seconds.values()
    lines = [
        [name, f"{1e3 * each / BATCH:.2f}", f"{original / each:.1f}", f"{each / floor:.2f}"]
        for name, each in seconds.items()
    ]
    return (
        document.table(["", "ms per clip", "speed-up", "x floor"], lines)
        + f"\n{scope} Ours in a batch of {BATCH}: {original / ours:.1f} times as fast as the five calls (goal: 10), "
        f"{ours / floor:.2f} x the floor (goal: at most 2)."
    )


def main() -> None:
    """Time the candidates and print the table."""
    parser = command.make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    use_one_core()
    spec = load_config(overrides=["training.family=original_cnn"]).audio
    waveforms = load_clips(spec, options.data)
    seconds = median_seconds(candidates(waveforms, spec), rounds=options.rounds, clock=time.process_time)
    text = to_markdown(
        seconds,
        f"{BATCH} clips of {spec.window_sec:g} s, one core, CPU time, medians of {options.rounds} interleaved rounds.",
    )
    command.publish({"extraction": text}, options.write)


if __name__ == "__main__":
    main()
