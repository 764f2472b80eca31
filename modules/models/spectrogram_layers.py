"""Keras layers for log-mel features, including augmentation that acts in training only.

Features are float32 ``[batch, frames, bands]``, normalised per band; ``valid_frames`` is int32 ``[batch]``. The layers
consist of Keras operations only, so that they train on any backend.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

# Share of the speech's energy at either end that may be a click or a breath.
_OUTER_SHARE = 0.01

# First and last band, as shares of all bands, between the hum and the hiss of rooms.
_SPEECH_BANDS = (0.03, 0.625)

# Natural logarithm of the power in one unit of the normalised features, about 24 dB.
_NATS = 2.4 * math.log(10)

# White noise 20 to 0 dB below the speech of RAVDESS lies 0.1 to 1.8 of these units above the mean and rises by 0.8 from
# the lowest band to the highest, where speech is weaker; the standard deviation of single cells is 0.09.
_FLOOR_LEVELS = (-1.5, 1.5)
_FLOOR_SLOPES = (-0.5, 1.5)
_FLOOR_ROUGHNESS = 0.1


class _TrainingOnly(keras.layers.Layer):
    """Base of layers with a random number generator of their own."""

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed)

    def uniform(self, values: keras.KerasTensor, low: float, high: float) -> keras.KerasTensor:
        """Return one uniform number per clip, ``[batch, 1]``.

        Args:
            values: Tensor ``[batch, ...]`` that gives the batch size.
            low: Lower bound.
            high: Upper bound.
        """
        return keras.random.uniform((ops.shape(values)[0], 1), low, high, seed=self.random)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="ser")
class AlignedSpeech(_TrainingOnly):
    """Cut of the speech without the silence around it, stretched to a fixed number of frames.

    The same part of a sentence then lies at about the same place in every clip. The weight of a frame is the height of
    its loudest band above a floor ``range`` below the loudest frame; the speech lies between the 1st and the 99th
    percentile of the cumulative weight.

    Args:
        frames: Number of frames of the output.
        range: Depth of the floor, in the unit of the normalised features, about 20 dB.
        margin: Share of the speech's length that is kept before and after it.
        jitter: Largest move of either end in training, as a share of the speech's length.
        seed: Seed of the augmentation.
    """

    def __init__(
        self,
        frames: int,
        range: float = 1.8,
        margin: float = 0.06,
        jitter: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        self.frames = frames
        self.range = range
        self.margin = margin
        self.jitter = jitter

    def call(
        self, features: keras.KerasTensor, valid_frames: keras.KerasTensor, training: bool = False
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return the speech, ``[batch, self.frames, bands]``, and its share of the window, ``[batch, 1]``.

        Args:
            features: float32 ``[batch, frames, bands]``.
            valid_frames: int32 ``[batch]``.
            training: Whether the ends move at random.
        """
        start, end = self._ends(features, valid_frames)
        length = end - start
        start, end = start - self.margin * length, end + self.margin * length
        if training:
            start = start + length * self.uniform(features, -self.jitter, self.jitter)
            end = end + length * self.uniform(features, -self.jitter, self.jitter)
        places = ops.linspace(0.0, 1.0, self.frames)[None]
        last = ops.maximum(ops.cast(valid_frames, "float32")[:, None] - 1, 0.0)
        positions = ops.clip(start + (end - start) * places, 0.0, last)
        taken = ops.cast(interpolation(positions, features.shape[1]), features.dtype)
        return ops.matmul(taken, features), ops.cast(length / features.shape[1], features.dtype)

    def _ends(
        self, features: keras.KerasTensor, valid_frames: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        frames, bands = features.shape[1:]
        speech = features[:, :, int(_SPEECH_BANDS[0] * bands) : max(int(_SPEECH_BANDS[1] * bands), 1)]
        loudness = ops.cast(ops.max(speech, axis=2), "float32")
        count = ops.arange(frames, dtype="int32")[None]
        valid = count < ops.maximum(ops.cast(valid_frames, "int32")[:, None], 1)
        peak = ops.max(ops.where(valid, loudness, -1e4), axis=1, keepdims=True)
        above = ops.where(valid, ops.relu(loudness - peak + self.range), 0.0)
        so_far = ops.cumsum(above, axis=1) / ops.sum(above, axis=1, keepdims=True)
        # The number of frames below a share is the index of the frame that reaches it.
        start = ops.sum(ops.cast(so_far <= _OUTER_SHARE, "float32"), axis=1, keepdims=True)
        end = ops.sum(ops.cast(so_far <= 1 - _OUTER_SHARE, "float32"), axis=1, keepdims=True)
        return start, end

    def compute_output_shape(
        self, features_shape: tuple[int | None, ...], valid_frames_shape: tuple[int | None, ...]
    ) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
        """Return the shapes of the two outputs."""
        return (features_shape[0], self.frames, features_shape[2]), (features_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        own = {"frames": self.frames, "range": self.range, "margin": self.margin, "jitter": self.jitter}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="ser")
class FrequencyWarp(_TrainingOnly):
    """Vocal tract length perturbation: a stretch and a shift along the mel bands (Jaitly and Hinton 2013).

    Args:
        max_shift: Largest shift in either direction, as a share of all bands.
        max_log_scale: Largest stretch in either direction, as a natural logarithm of the factor.
        seed: Seed of the augmentation.
    """

    def __init__(self, max_shift: float, max_log_scale: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.max_shift = max_shift
        self.max_log_scale = max_log_scale

    def call(self, features: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Return augmented features, ``[batch, frames, bands]``; in inference, the features as they are."""
        if not training:
            return features
        bands = features.shape[2]
        scale = ops.exp(self.uniform(features, -self.max_log_scale, self.max_log_scale))
        shift = bands * self.uniform(features, -self.max_shift, self.max_shift)
        taken = interpolation(ops.arange(bands, dtype="float32")[None] * scale + shift, bands)
        return ops.matmul(features, ops.cast(ops.transpose(taken, (0, 2, 1)), features.dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "max_shift": self.max_shift, "max_log_scale": self.max_log_scale}


@keras.saving.register_keras_serializable(package="ser")
class RandomGain(_TrainingOnly):
    """Random gain: one normally distributed number per clip, added to all cells, since the features are decibels.

    Args:
        deviation: Standard deviation of the gain, in the features' unit, about 20 dB.
        seed: Seed of the augmentation.
    """

    def __init__(self, deviation: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.deviation = deviation

    def call(self, features: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Return augmented features, ``[batch, frames, bands]``; in inference, the features as they are."""
        if not training:
            return features
        shape = (ops.shape(features)[0], 1, 1)
        return features + keras.random.normal(shape, stddev=self.deviation, seed=self.random, dtype=features.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "deviation": self.deviation}


@keras.saving.register_keras_serializable(package="ser")
class NoiseFloor(_TrainingOnly):
    """Random noise floor, as of steady noise.

    The powers of sound and noise add. Level and slope of the floor are drawn for each clip; its cells vary as those of
    noise do.

    Args:
        share: Share of the clips with a floor.
        seed: Seed of the augmentation.
    """

    def __init__(self, share: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.share = share

    def call(self, features: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Return augmented features, ``[batch, frames, bands]``; in inference, the features as they are."""
        if not training:
            return features
        places = ops.linspace(-0.5, 0.5, features.shape[2])[None]
        line = self.uniform(features, *_FLOOR_LEVELS) + self.uniform(features, *_FLOOR_SLOPES) * places
        floor = line[:, None] + keras.random.normal(ops.shape(features), stddev=_FLOOR_ROUGHNESS, seed=self.random)
        filled = ops.logaddexp(_NATS * ops.cast(features, "float32"), _NATS * floor) / _NATS
        chosen = self.uniform(features, 0.0, 1.0) < self.share
        return ops.where(chosen[:, :, None], ops.cast(filled, features.dtype), features)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "share": self.share}


@keras.saving.register_keras_serializable(package="ser")
class SpecMask(_TrainingOnly):
    """Random stripes of zero, the mean (SpecAugment without its warp, Park et al. 2019).

    Args:
        masks: Number of stripes along time, and along frequency.
        max_share: Largest width of a stripe, as a share of all frames or bands.
        seed: Seed of the augmentation.
    """

    def __init__(self, masks: int, max_share: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.masks = masks
        self.max_share = max_share

    def call(self, features: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Return augmented features, ``[batch, frames, bands]``; in inference, the features as they are."""
        if not training:
            return features
        for _ in range(self.masks):
            features = features * ops.cast(self._kept(features, axis=1)[:, :, None], features.dtype)
            features = features * ops.cast(self._kept(features, axis=2)[:, None, :], features.dtype)
        return features

    def _kept(self, features: keras.KerasTensor, *, axis: int) -> keras.KerasTensor:
        size = features.shape[axis]
        width = size * self.uniform(features, 0.0, self.max_share)
        start = (size - width) * self.uniform(features, 0.0, 1.0)
        place = ops.arange(size, dtype="float32")[None]
        return ops.logical_or(place < start, place >= start + width)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "masks": self.masks, "max_share": self.max_share}


@keras.saving.register_keras_serializable(package="ser")
class AttentionPooling(keras.layers.Layer):
    """Mean over time with weights that a small network learns (Mirsamadi et al. 2017).

    Args:
        units: Units of the hidden layer of that network.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.hidden = keras.layers.Dense(units, activation="tanh", name="hidden")
        self.score = keras.layers.Dense(1, name="score")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layers of the network for values of this shape."""
        self.hidden.build(input_shape)
        self.score.build((*input_shape[:-1], self.units))

    def call(self, values: keras.KerasTensor) -> keras.KerasTensor:
        """Return the weighted mean, ``[batch, channels]``, of ``[batch, frames, channels]``."""
        return ops.sum(ops.softmax(self.score(self.hidden(values)), axis=1) * values, axis=1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "units": self.units}


def interpolation(positions: keras.KerasTensor, size: int) -> keras.KerasTensor:
    """Return the weights of a linear interpolation.

    Args:
        positions: Fractional indices, ``[batch, places]``; those outside read the first or the last value.
        size: Number of values that are interpolated.

    Returns:
        ``[batch, places, size]``.
    """
    inside = ops.clip(positions, 0.0, size - 1.0)
    return ops.relu(1.0 - ops.abs(inside[:, :, None] - ops.arange(size, dtype="float32")))


def cosine_transform(values: keras.KerasTensor, coefficients: int) -> keras.KerasTensor:
    """Return the first coefficients of the orthonormal DCT-II along the last axis.

    Args:
        values: ``[..., size]``.
        coefficients: Number of coefficients.

    Returns:
        ``[..., coefficients]``.
    """
    size = values.shape[-1]
    order = np.arange(coefficients)
    basis = np.cos(np.pi * (np.arange(size)[:, None] + 0.5) * order / size) * np.sqrt(np.where(order, 2, 1) / size)
    return ops.matmul(values, ops.convert_to_tensor(basis.astype(np.float32), dtype=values.dtype))


def time_statistics(values: keras.KerasTensor) -> keras.KerasTensor:
    """Return the mean and standard deviation, and those of the differences between frames (mean of absolute values).

    Args:
        values: ``[batch, frames, channels]``.

    Returns:
        ``[batch, 4 channels]``.
    """
    steps = values[:, 1:] - values[:, :-1]
    parts = [ops.mean(values, 1), _deviation(values), _deviation(steps), ops.mean(ops.abs(steps), 1)]
    return ops.concatenate(parts, axis=-1)


def _deviation(values: keras.KerasTensor) -> keras.KerasTensor:
    # The gradient of the root is infinite at 0, which silence reaches.
    return ops.sqrt(ops.var(values, axis=1) + 1e-6)
