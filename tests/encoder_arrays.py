"""Random weights with the shapes of whisper-tiny.en, in place of the published ones."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modules.audio.encoder import catalog, weights

WIDTH, BLOCKS = 384, 4


def random_arrays() -> dict[str, np.ndarray]:
    """Return arrays of the shapes of whisper-tiny.en's encoder."""
    rng = np.random.default_rng(0)
    shapes = {"conv1/weight": (WIDTH, 80, 3), "conv1/bias": (WIDTH,), "conv2/weight": (WIDTH, WIDTH, 3)}
    shapes |= {"conv2/bias": (WIDTH,), "position_encodings/encodings": (1500, WIDTH)}
    shapes |= {"layer_norm/gamma": (WIDTH,), "layer_norm/beta": (WIDTH,)}
    for block in range(BLOCKS):
        for part, layers in (("self_attention", ((3, 1), (1, 1))), ("ffn", ((4, 1), (1, 4)))):
            shapes |= {f"layer_{block}/{part}/layer_norm/{name}": (WIDTH,) for name in ("gamma", "beta")}
            for number, (rows, columns) in enumerate(layers):
                shapes[f"layer_{block}/{part}/linear_{number}/weight"] = (rows * WIDTH, columns * WIDTH)
                shapes[f"layer_{block}/{part}/linear_{number}/bias"] = (rows * WIDTH,)
    return {name: (0.05 * rng.standard_normal(shape)).astype(np.float16) for name, shape in shapes.items()}


def publish(arrays: dict[str, np.ndarray], folder: Path, patch: pytest.MonkeyPatch) -> catalog.Encoder:
    """Register the arrays as whisper-tiny.en in the catalogue, and set the folder of fetched weights."""
    random = dataclasses.replace(catalog.ENCODERS["whisper-tiny.en"], arrays_sha256=weights.arrays_digest(arrays))
    patch.setitem(catalog.ENCODERS, random.name, random)
    patch.setenv(weights.FOLDER_VARIABLE, str(folder))
    return random


@contextlib.contextmanager
def fetched(folder: Path) -> Iterator[catalog.Encoder]:
    """Use random arrays as fetched weights, which lie in the folder."""
    arrays = random_arrays()
    with pytest.MonkeyPatch.context() as patch:
        encoder = publish(arrays, folder, patch)
        file = weights.weights_file(encoder)
        file.parent.mkdir(parents=True)
        np.savez(file, allow_pickle=False, **arrays)
        yield encoder
