"""Feature extraction, side by side on the same clips and one core: ``python -m benchmarks.extraction``.

The candidates: five librosa calls with an STFT and a tuning estimate of their own (how these 270 features are usually
computed), librosa on one shared STFT, ours at two batch sizes, and the floor: a batched real FFT of ready-made frames
and the mel matrix product, which no extractor that has both can undercut by much.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import tensorflow as tf

from benchmarks.timing import median_seconds, use_one_core
from modules import features, frontend
from modules.audio_spec import AudioSpec
from modules.decoding import decode

BATCH = 32
CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"


def five_calls(waveform: np.ndarray, spec: AudioSpec) -> np.ndarray:
    """Every feature by its own call with its own STFT; chroma estimates a tuning."""
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
    """The same numbers from one STFT, with the tuning given."""
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
    """Each computes the features of all of ``waveforms``, float32 ``[BATCH, spec.window_samples]``."""
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
    """The project's extractor, as the ExampleGen calls it."""
    signature = [tf.TensorSpec([None, spec.window_samples], tf.float32), tf.TensorSpec([None], tf.int32)]
    return tf.function(
        lambda waveforms, valid_samples: features.extract(waveforms, valid_samples, spec), input_signature=signature
    )


def ready_made_frames(waveforms: np.ndarray, spec: AudioSpec) -> tf.Tensor:
    """Framed and Hann-windowed ahead of time: float32 ``[BATCH, frames, n_fft]``."""
    half = spec.n_fft // 2
    padded = tf.pad(waveforms, [[0, 0], [half, half]])
    return tf.signal.frame(padded, spec.n_fft, spec.hop_samples) * tf.signal.hann_window(spec.n_fft)


def rfft_and_mel(spec: AudioSpec) -> Callable[[tf.Tensor], tf.Tensor]:
    """The floor: real FFT, power and the dense mel matrix product of ready-made frames."""
    filters = librosa.filters.mel(sr=spec.sample_rate_hz, n_fft=spec.n_fft, n_mels=spec.mel_bands)
    mel = tf.constant(filters.T)

    @tf.function(input_signature=[tf.TensorSpec([None, None, spec.n_fft], tf.float32)])
    def mel_power(frames: tf.Tensor) -> tf.Tensor:
        spectrum = tf.signal.rfft(frames)
        return tf.matmul(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)), mel)

    return mel_power


def load_clips(spec: AudioSpec, corpora: Path) -> tuple[np.ndarray, str]:
    """:data:`BATCH` full windows, real speech where it is at hand, and what they are."""
    paths = sorted(corpora.glob("ravdess/Actor_*/*.flac"))
    if not paths:
        return _speech_like_noise(spec), "synthetic noise"
    windows = []
    for path in paths[:: max(1, len(paths) // (2 * BATCH))]:
        recording = decode(path.read_bytes())
        window, valid_samples = frontend.window_of_waveform(recording.samples, recording.sample_rate_hz, spec)
        if valid_samples == spec.window_samples:
            windows.append(window.numpy())
    return np.stack(windows[:BATCH]), "RAVDESS clips"


def _speech_like_noise(spec: AudioSpec) -> np.ndarray:
    generator = np.random.default_rng(0)
    noise = np.cumsum(generator.standard_normal((BATCH, spec.window_samples)), axis=1)
    noise -= np.apply_along_axis(lambda row: np.convolve(row, np.full(400, 1 / 400), "same"), 1, noise)
    return (0.1 * noise / np.abs(noise).max()).astype(np.float32)


def main() -> None:
    """Prints milliseconds per clip and the two ratios that have goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    arguments = parser.parse_args()
    use_one_core()
    spec = AudioSpec()
    waveforms, what = load_clips(spec, arguments.corpora)
    seconds = median_seconds(candidates(waveforms, spec), rounds=arguments.rounds, clock=time.process_time)
    print(f"{BATCH} {what} of {spec.window_sec} s, one core, CPU time, median of {arguments.rounds} interleaved rounds")
    original, *_, ours, floor = seconds.values()
    print(f"{'':<32}{'ms per clip':>12}{'speed-up':>10}{'x floor':>9}")
    for name, duration_sec in seconds.items():
        per_clip_ms = 1e3 * duration_sec / BATCH
        print(f"{name:<32}{per_clip_ms:>12.2f}{original / duration_sec:>10.1f}{duration_sec / floor:>9.2f}")
    print(f"goals: ours at batch {BATCH} at least 10 x faster than five calls: {original / ours:.1f} x")
    print(f"       and at most 2 x the floor: {ours / floor:.2f} x")


if __name__ == "__main__":
    main()
