"""Whisper's log-mel front end and the first blocks of its encoder, as a TensorFlow graph.

After Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (2022), and the published code,
https://github.com/openai/whisper (whisper/audio.py, whisper/model.py). The encoder runs on the window's own length;
Whisper's padding to 30 s is not needed.
"""

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from modules.audio.encoder import weights
from modules.audio.encoder.catalog import Encoder, encoder_named

SAMPLE_RATE_HZ = 16_000
N_FFT = 400
HOP_SAMPLES = 160
MEL_BANDS = 80
STRIDE = 2
"""Log-mel frames per frame of the encoder: the second convolution halves the rate, to 50 frames a second."""

_AMIN_POWER = 1e-10
_TOP_BELS = 8.0
_NORM_EPSILON = 1e-5


def log_mel(waveforms: tf.Tensor) -> tf.Tensor:
    """Return the log-mel spectrogram as Whisper scales it.

    Args:
        waveforms: float32 ``[batch, samples]`` at 16 kHz.

    Returns:
        float32 ``[batch, samples // 160, 80]``: base-10 logarithm of the mel power, floored 8 below the window's
        maximum, then ``(x + 4) / 4``.
    """
    half = N_FFT // 2
    padded = tf.pad(waveforms, [[0, 0], [half, half]], mode="REFLECT")
    frames = tf.signal.frame(padded, N_FFT, HOP_SAMPLES)[:, :-1]
    spectrum = tf.signal.rfft(frames * _hann_window())
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    bels = tf.math.log(tf.maximum(power @ _mel_filters(), _AMIN_POWER)) / np.log(10).astype(np.float32)
    loudest = tf.reduce_max(bels, axis=[1, 2], keepdims=True)
    return (tf.maximum(bels, loudest - _TOP_BELS) + 4.0) / 4.0


def outputs(waveforms: tf.Tensor, encoder: str, blocks: tuple[int, ...]) -> tf.Tensor:
    """Return the joined outputs of some of an encoder's blocks.

    Args:
        waveforms: float32 ``[batch, samples]`` at 16 kHz.
        encoder: Name in :data:`modules.audio.encoder.catalog.ENCODERS`.
        blocks: Numbers of the blocks, from 1, or 0 for the input of the first; blocks after the last of them are not
            computed.

    Returns:
        float32 ``[batch, frames, len(blocks) * width]`` at 50 frames a second.

    Raises:
        WeightsError: The weights were not fetched.
    """
    return _graph(encoder_named(encoder), blocks)(waveforms)


@functools.cache
def _graph(encoder: Encoder, blocks: tuple[int, ...]) -> tf.types.experimental.GenericFunction:
    """Return the encoder as one function: all signatures of a SavedModel share it, and with it the weights."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
    def encode(waveforms: tf.Tensor) -> tf.Tensor:
        arrays = weights.load(encoder.name)
        x = _gelu(_convolve(log_mel(waveforms), arrays, "conv1", stride=1))
        x = _gelu(_convolve(x, arrays, "conv2", stride=STRIDE))
        x += _constant(arrays["position_encodings/encodings"])[: tf.shape(x)[1]]
        outputs_of_blocks = _blocks(x, arrays, encoder.heads, max(blocks))
        return tf.concat([x for number, x in outputs_of_blocks if number in blocks], axis=-1)

    return encode


def _blocks(x: tf.Tensor, arrays: dict[str, np.ndarray], heads: int, last: int) -> Iterator[tuple[int, tf.Tensor]]:
    yield 0, x
    for number in range(1, last + 1):
        name = f"layer_{number - 1}"
        x += _attention(normalise(x, arrays, f"{name}/self_attention/layer_norm"), arrays, name, heads)
        hidden = _gelu(_dense(normalise(x, arrays, f"{name}/ffn/layer_norm"), arrays, f"{name}/ffn/linear_0"))
        x += _dense(hidden, arrays, f"{name}/ffn/linear_1")
        yield number, x


def _attention(x: tf.Tensor, arrays: dict[str, np.ndarray], block: str, heads: int) -> tf.Tensor:
    batch, frames, width = tf.shape(x)[0], tf.shape(x)[1], x.shape[2]
    joined = _dense(x, arrays, f"{block}/self_attention/linear_0")
    split = tf.transpose(tf.reshape(joined, [batch, frames, 3, heads, width // heads]), [2, 0, 3, 1, 4])
    queries, keys, values = tf.unstack(split)
    scores = tf.matmul(queries, keys, transpose_b=True) * (width // heads) ** -0.5
    attended = tf.transpose(tf.matmul(tf.nn.softmax(scores), values), [0, 2, 1, 3])
    return _dense(tf.reshape(attended, [batch, frames, width]), arrays, f"{block}/self_attention/linear_1")


def _convolve(x: tf.Tensor, arrays: dict[str, np.ndarray], name: str, *, stride: int) -> tf.Tensor:
    kernel = _constant(arrays[f"{name}/weight"].transpose(2, 1, 0))
    padded = tf.pad(x, [[0, 0], [1, 1], [0, 0]])
    return tf.nn.conv1d(padded, kernel, stride, "VALID") + _constant(arrays[f"{name}/bias"])


def _dense(x: tf.Tensor, arrays: dict[str, np.ndarray], name: str) -> tf.Tensor:
    rows = tf.reshape(x, [-1, x.shape[-1]])
    kernel = _constant(arrays[f"{name}/weight"].T)
    product = tf.matmul(rows, kernel) + _constant(arrays[f"{name}/bias"])
    return tf.reshape(product, tf.concat([tf.shape(x)[:-1], [kernel.shape[-1]]], axis=0))


def normalise(x: tf.Tensor, arrays: dict[str, np.ndarray], name: str) -> tf.Tensor:
    """Return ``x``, float32 ``[..., width]``, after the layer normalisation of that name in ``arrays``."""
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    scaled = (x - mean) * tf.math.rsqrt(variance + _NORM_EPSILON)
    return scaled * _constant(arrays[f"{name}/gamma"]) + _constant(arrays[f"{name}/beta"])


def _gelu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.gelu(x, approximate=False)


def _constant(array: np.ndarray) -> tf.Tensor:
    """Keep the published float16 in the graph, which halves its size, and compute in float32."""
    return tf.cast(tf.constant(array), tf.float32)


def _hann_window() -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


@functools.cache
def _mel_filters() -> np.ndarray:
    import librosa  # takes seconds

    return librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=N_FFT, n_mels=MEL_BANDS).T.astype(np.float32)
