"""A search with trials of negligible duration: ``python -m tests.modules.training.tiny_search FOLDER SETTINGS``."""

import json
import sys

import keras
import keras_tuner
import numpy as np

from modules.training.settings import TuningSettings
from modules.training.tuner import Search, make_tuner
from tests.original import ORIGINAL_TRAINING


def model(hp: keras_tuner.HyperParameters) -> keras.Model:
    inputs = keras.Input((4,))
    x = keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5))(inputs)
    built = keras.Model(inputs, keras.layers.Dense(1)(x))
    built.compile(keras.optimizers.SGD(hp.Float("rate", 1e-3, 1e-1, sampling="log")), loss="mse")
    return built


def search(folder: str, settings: TuningSettings) -> Search:
    tuner = make_tuner(model, settings, ORIGINAL_TRAINING, directory=folder)
    tuner.splits = {}
    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    y = x.sum(axis=1)
    tuner.search(x=x, y=y, validation_data=(x, y), epochs=settings.epochs, verbose=0)
    return tuner


if __name__ == "__main__":
    search(sys.argv[1], TuningSettings(**json.loads(sys.argv[2])))
