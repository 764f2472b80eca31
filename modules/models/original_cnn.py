"""Convolutional network of the previous system with its training, unchanged, as a baseline.

It convolves along the 270 utterance features as if they were a signal. Source: commit eb03acd of
https://github.com/akhilkn8/speech-emotion-detection-GCP (2024).

==============================  ======================================  ============================================
values                          file                                    place
==============================  ======================================  ============================================
network                         model_training/model_trainer.py         ``ModelTrainer.cnn_model_1``
hyperparameters, batch of 16    model_training/params.yaml              ``model_params.CNN``
space of the search             model_training/model_trainer.py         ``ModelTrainer.hp_tune_cnn``
optimizer, schedule, stopping   model_training/model_trainer.py         ``ModelTrainer.train``
at most 50 epochs               model_training/main.py                  ``ModelTrainerTrainingPipeline(epochs=50)``
copies of a training clip       data_transformation/params.yaml         ``data_transforms.train_params``
noise of 0.035, 3 semitones     data_transformation/                    ``AudioAugmenter.noise``, ``.pitch``
                                data_transformation.py
2.5 s from 0.6 s on             the same                                ``DataTransformation.get_features``
scaling                         the same                                ``DataTransformation.scale_data``
==============================  ======================================  ============================================

Values that are not in the recipe below are the defaults; ``docs/guides/migrate.md`` lists what differs all the same.
"""

from typing import TYPE_CHECKING

from pydantic import Field

from modules.common.settings import Settings
from modules.models.family import FEATURES, VALID_FRAMES, ModelFamily

if TYPE_CHECKING:
    import keras
    import keras_tuner


class OriginalCnnHyperparameters(Settings):
    """Hyperparameters of the original network."""

    filters: int = Field(
        64, ge=1, description="Filters of the first block; the second has twice, the third four times as many."
    )
    kernel: int = Field(3, ge=1, description="Values under one convolution.")
    pool: int = Field(2, ge=1, description="Values under one max-pooling, which moves in steps of one.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of the last block's outputs that training drops.")


def search_space(
    hp: "keras_tuner.HyperParameters", hyperparameters: OriginalCnnHyperparameters
) -> OriginalCnnHyperparameters:
    """Return hyperparameters that a search draws, in place of the given ones.

    Args:
        hp: Values that the search proposes.
        hyperparameters: Hyperparameters that are not searched.
    """
    return hyperparameters.replace(
        filters=hp.Choice("filters", [16, 32, 64, 128], default=64),
        kernel=hp.Int("kernel", 3, 10, default=3),
        pool=hp.Int("pool", 2, 5, default=2),
        dropout=hp.Float("dropout", 0.05, 0.5, step=0.05, default=0.2),
    )


def build(input_shape: tuple[int, ...], classes: int, hyperparameters: OriginalCnnHyperparameters) -> "keras.Model":
    """Return the uncompiled model; see :class:`modules.models.family.ModelFamily`.

    Args:
        input_shape: Number of utterance features of a clip.
        classes: Number of classes.
        hyperparameters: Sizes of the network.
    """
    import keras  # here, since commands that only read settings import this module

    features = keras.Input(input_shape, name=FEATURES)
    # Unused, since utterance features are means over time; every family has this input.
    valid_frames = keras.Input((), dtype="int32", name=VALID_FRAMES)
    x = keras.layers.Reshape((*input_shape, 1))(features)
    for width, strides in ((1, (1, 2, 2)), (2, (1, 2)), (4, (2,))):
        x = _block(x, width * hyperparameters.filters, strides, hyperparameters)
    x = keras.layers.Dropout(hyperparameters.dropout)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(64, activation="relu")(x)
    x = keras.layers.Dense(16, activation="relu")(x)
    # Keep the softmax in float32: float16 is too coarse for the loss.
    probabilities = keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
    return keras.Model({FEATURES: features, VALID_FRAMES: valid_frames}, probabilities, name="original_cnn")


def _block(
    x: "keras.KerasTensor", filters: int, strides: tuple[int, ...], hyperparameters: OriginalCnnHyperparameters
) -> "keras.KerasTensor":
    import keras

    for stride in strides:
        x = keras.layers.Conv1D(filters, hyperparameters.kernel, strides=stride, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling1D(hyperparameters.pool, strides=1, padding="same")(x)
    return keras.layers.BatchNormalization()(x)


ORIGINAL_CNN = ModelFamily(
    name="original_cnn",
    feature_family="utterance",
    hyperparameters_type=OriginalCnnHyperparameters,
    search_space=search_space,
    build=build,
    recipe={
        "audio": {"feature_family": "utterance", "window_offset_sec": 0.6, "window_sec": 2.5},
        "splits": {"train": 0.7, "eval": 0.15},
        "augmentation": {"variants": ["plain", "noise", "pitch", "pitch+noise"], "pitch_semitones": 3.0},
        "training": {
            "epochs": 50,
            "batch_size": 16,
            "learning_rate": 0.001,
            "learning_rate_schedule": "plateau",
            "weight_decay": 0.0,
            "label_smoothing": 0.0,
            "mixup": 0.0,
            "early_stopping_patience": 4,
        },
    },
)
