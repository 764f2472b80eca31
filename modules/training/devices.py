"""Accelerators for training."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from modules.common.errors import SerError
from modules.data.dataset import Split

ACCELERATORS_KEY = "accelerators"
"""Key of ``custom_config`` with the number of accelerators of the job; 0 or absent for none."""


class AcceleratorsMissing(SerError, RuntimeError):
    """Fewer accelerators available to TensorFlow than the job has."""

    code = "training.accelerators_missing"


def accelerators_of(custom_config: Mapping[str, Any]) -> list[str]:
    """Return the names of the job's accelerators, such as ``GPU:0``; empty for a job without any.

    Args:
        custom_config: Configuration of the job with :data:`ACCELERATORS_KEY`.

    Raises:
        AcceleratorsMissing: TensorFlow finds fewer.
    """
    required = custom_config.get(ACCELERATORS_KEY, 0)
    if not required:
        return []
    available = len(tf.config.list_physical_devices("GPU"))
    if available < required:
        raise AcceleratorsMissing(
            f"this job has {required} accelerators and TensorFlow finds {available}, so it would train on the CPU. "
            "Check that the image is vertex.gpu_image, that LD_LIBRARY_PATH in it has "
            "/usr/local/nvidia/lib64, and that the driver fits its CUDA; or set accelerator_type: null and "
            "accelerator_count: 0"
        )
    return [f"GPU:{index}" for index in range(required)]


def strategy_of(devices: Sequence[str]) -> tf.distribute.Strategy:
    """Return a strategy that trains on all devices at once; TensorFlow's default for one or none.

    Args:
        devices: Names of logical devices, such as ``GPU:0``.
    """
    return _mirrored(tuple(devices)) if len(devices) > 1 else tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Return the only such strategy of the process; two would use the same keys for reductions, and fail."""
    return tf.distribute.MirroredStrategy(devices)


def divisible(split: Split, devices: int) -> Split:
    """Return the split without its last clips, at most ``devices - 1``, so that devices can share each batch evenly.

    Keras gives the clips of an uneven batch different weights, and fails on a device without clips.

    Args:
        split: Clips to train on.
        devices: Number of devices.
    """
    clips = len(split) - len(split) % max(devices, 1)
    columns = [field.name for field in dataclasses.fields(split) if field.name != "emotions"]
    return dataclasses.replace(split, **{name: getattr(split, name)[:clips] for name in columns})


def synchronise_batch_statistics(model: keras.Model) -> None:
    """Let batch normalization use the whole batch where a strategy divides it between several devices."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
