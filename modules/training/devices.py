"""The accelerators that a training uses."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from modules.data.dataset import Split

ACCELERATORS_KEY = "accelerators"
"""Key of ``custom_config``: how many accelerators the job was given; 0 or absent for none."""


class AcceleratorsMissing(RuntimeError):
    """TensorFlow sees fewer accelerators than the job was given."""


def accelerators_of(custom_config: Mapping[str, Any]) -> list[str]:
    """Return the names of the accelerators that the job was given, such as ``GPU:0``; none where it was given none.

    Raises:
        AcceleratorsMissing: TensorFlow sees fewer.
    """
    wanted = custom_config.get(ACCELERATORS_KEY, 0)
    if not wanted:
        return []
    found = len(tf.config.list_physical_devices("GPU"))
    if found < wanted:
        raise AcceleratorsMissing(
            f"this job was given {wanted} accelerators and TensorFlow sees {found}, so it would train on the CPU of a "
            "machine whose GPU is paid for. Check that the image is vertex.gpu_image, that LD_LIBRARY_PATH in it has "
            "/usr/local/nvidia/lib64, and that the driver fits its CUDA; or set accelerator_type: null and "
            "accelerator_count: 0"
        )
    return [f"GPU:{index}" for index in range(wanted)]


def strategy_of(devices: Sequence[str]) -> tf.distribute.Strategy:
    """Return a strategy that trains on all of ``devices`` at once; TensorFlow's default for one or none."""
    return _mirrored(tuple(devices)) if len(devices) > 1 else tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One for the process: two of them would give their reductions the same keys, and TensorFlow fails on that."""
    return tf.distribute.MirroredStrategy(devices)


def divisible(split: Split, devices: int) -> Split:
    """Return the split without its last clips, at most ``devices - 1``, so that devices can share each batch evenly.

    Keras weighs the clips of an uneven batch differently, and fails on a device without any.
    """
    clips = len(split) - len(split) % max(devices, 1)
    arrays = {field.name: getattr(split, field.name)[:clips] for field in dataclasses.fields(split)}
    return dataclasses.replace(split, **arrays)


def synchronise_batch_statistics(model: keras.Model) -> None:
    """Let batch normalization see the whole batch where a strategy divides it between several devices."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
