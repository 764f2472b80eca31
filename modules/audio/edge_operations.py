"""Steps of the front end for edge runtimes, which lack complex numbers.

Matrices are left factors of products: where weights are quantised, converters take constant right factors for weights,
and 8 bits are too few for the power of sound.
"""

import math

import numpy as np
import tensorflow as tf

from modules.audio.features import Operations, windowed_frames
from modules.audio.spec import AudioSpec


def _sound_mask(valid_samples: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return the mask from the numbers of a sample's row and column: a constant of all numbers would be 300 kB."""
    columns = math.isqrt(spec.window_samples)
    rows = -(-spec.window_samples // columns)
    row, column = np.arange(rows, dtype=np.int32)[:, np.newaxis], np.arange(columns, dtype=np.int32)
    valid = valid_samples[:, tf.newaxis, tf.newaxis]
    last_row = valid // columns
    mask = (row < last_row) | ((row == last_row) & (column < valid - last_row * columns))
    return tf.reshape(mask, [-1, rows * columns])[:, : spec.window_samples]


def _power_spectrum(waveforms: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return the power spectrum by real products.

    The transform of ``n_fft = rows x columns`` samples is one of each column, a rotation, and one of each row (Cooley
    and Tukey, An Algorithm for the Machine Calculation of Complex Fourier Series, 1965). The matrix of the whole
    transform would be larger than the model.
    """
    columns = next(size for size in range(math.isqrt(spec.n_fft), 0, -1) if spec.n_fft % size == 0)
    rows = spec.n_fft // columns
    frames = tf.reshape(windowed_frames(waveforms, spec), [-1, rows, columns])
    of_columns = _roots(rows, range(rows), range(rows))
    rotation = _roots(spec.n_fft, range(rows), range(columns))
    of_rows = _roots(columns, range(columns // 2 + 1), range(columns))  # the other frequencies mirror these
    real, imaginary = tf.matmul(of_columns.real, frames), tf.matmul(of_columns.imag, frames)
    real, imaginary = (
        real * rotation.real - imaginary * rotation.imag,
        real * rotation.imag + imaginary * rotation.real,
    )
    power = tf.square(_over_rows(of_rows.real, real) - _over_rows(of_rows.imag, imaginary))
    power += tf.square(_over_rows(of_rows.real, imaginary) + _over_rows(of_rows.imag, real))
    # Frequency k of the rows and frequency j of the columns are bin k * rows + j.
    bins = tf.reshape(power, [-1, spec.window_frames, (columns // 2 + 1) * rows])
    return bins[:, :, : spec.n_fft // 2 + 1]


def _roots(size: int, frequencies: range, places: range) -> np.ndarray:
    """Return the factors of a Fourier transform of this size, complex64 ``[frequencies, places]``."""
    return np.exp(-2j * np.pi * np.outer(frequencies, places) / size).astype(np.complex64)


def _over_rows(matrix: np.ndarray, values: tf.Tensor) -> tf.Tensor:
    """Return ``[frames, frequencies, rows]`` of ``[frames, rows, columns]``."""
    return tf.matmul(matrix, values, transpose_b=True)


def _product(values: tf.Tensor, matrix: np.ndarray) -> tf.Tensor:
    # A product of each frame alone: TFLite's converter would swap the factors of one of all frames.
    columns = tf.matmul(np.ascontiguousarray(matrix.T), tf.reshape(values, [-1, matrix.shape[0], 1]))
    return tf.reshape(columns, [*values.shape[:-1], matrix.shape[1]])


EDGE = Operations(sound_mask=_sound_mask, power_spectrum=_power_spectrum, product=_product)
"""Steps for :func:`modules.audio.features.extract` in operations of TFLite and ONNX."""
