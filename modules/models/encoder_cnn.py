"""A small one-dimensional CNN over the frames of a frozen speech encoder.

Convolutions over time read the encoder's frames. Mean, spread and an attention-weighted mean over the valid frames
describe the clip, after Mirsamadi et al., Automatic Speech Emotion Recognition Using Recurrent Neural Networks with
Local Attention (2017).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from modules.audio.spec import AudioSpec
from modules.common.settings import Settings
from modules.models.family import FEATURES, VALID_FRAMES, ModelFamily

if TYPE_CHECKING:
    import keras
    import keras_tuner


class EncoderCnnHyperparameters(Settings):
    """Hyperparameters of the CNN over an encoder's frames."""

    filters: int = Field(128, ge=1, description="Filters of each convolution.")
    kernel: int = Field(3, ge=1, description="Frames under the second convolution; the first one sees one frame.")
    input_dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of the encoder's channels that training drops, the same in all frames."
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of the clip's statistics that training drops.")


def search_space(
    hp: "keras_tuner.HyperParameters", hyperparameters: EncoderCnnHyperparameters
) -> EncoderCnnHyperparameters:
    """Return the hyperparameters with the searched ones drawn from ``hp``."""
    return hyperparameters.replace(
        filters=hp.Choice("filters", [64, 128, 192, 256], default=128),
        kernel=hp.Choice("kernel", [1, 3, 5], default=3),
        input_dropout=hp.Float("input_dropout", 0.0, 0.5, step=0.1, default=0.3),
        dropout=hp.Float("dropout", 0.2, 0.7, step=0.1, default=0.5),
    )


def build(input_shape: tuple[int, ...], classes: int, hyperparameters: EncoderCnnHyperparameters) -> "keras.Model":
    """Return the uncompiled model; see :class:`modules.models.family.ModelFamily` for its inputs and output."""
    import keras  # here, because settings name this family in processes that do not train

    features = keras.Input(input_shape, name=FEATURES)
    valid_frames = keras.Input((), dtype="int32", name=VALID_FRAMES)
    x = keras.layers.SpatialDropout1D(hyperparameters.input_dropout)(features)
    x = keras.layers.Conv1D(hyperparameters.filters, 1, activation="gelu")(x)
    x = keras.layers.Conv1D(hyperparameters.filters, hyperparameters.kernel, padding="same", activation="gelu")(x)
    weights = frame_weights(valid_frames, input_shape[0])
    scores = keras.layers.Conv1D(1, 1)(x) + (weights - 1.0) * 1e9
    described = keras.ops.concatenate([*moments(x, weights), _weighted(x, keras.ops.softmax(scores, axis=1))], axis=-1)
    described = keras.layers.BatchNormalization()(described)
    described = keras.layers.Dropout(hyperparameters.dropout)(described)
    # float32 whatever the precision of the rest: half precision is too coarse for the loss
    probabilities = keras.layers.Dense(classes, activation="softmax", dtype="float32")(described)
    return keras.Model({FEATURES: features, VALID_FRAMES: valid_frames}, probabilities, name="encoder_cnn")


def frame_weights(valid_frames: "keras.KerasTensor", frames: int) -> "keras.KerasTensor":
    """Return 1 for valid frames and 0 beyond them, ``[batch, frames, 1]``."""
    import keras

    inside = keras.ops.less(keras.ops.arange(frames, dtype="int32")[None, :], keras.ops.reshape(valid_frames, (-1, 1)))
    return keras.ops.cast(inside, "float32")[:, :, None]


def moments(x: "keras.KerasTensor", weights: "keras.KerasTensor") -> tuple["keras.KerasTensor", "keras.KerasTensor"]:
    """Return mean and standard deviation over the valid frames, each ``[batch, channels]``."""
    import keras

    shares = weights / keras.ops.maximum(keras.ops.sum(weights, axis=1, keepdims=True), 1.0)
    mean = _weighted(x, shares)
    variance = _weighted(keras.ops.square(x - mean[:, None, :]), shares)
    return mean, keras.ops.sqrt(variance + 1e-6)


def _weighted(x: "keras.KerasTensor", shares: "keras.KerasTensor") -> "keras.KerasTensor":
    import keras

    return keras.ops.sum(x * shares, axis=1)


ENCODER_RECIPE: Mapping[str, Mapping[str, Any]] = {
    "audio": {"feature_family": "encoder", "sample_rate_hz": 16_000},
    "augmentation": {
        "variants": ["plain", "tilt+gain+coloured_noise", "room+gain+babble", "telephone", "gain+excerpt"]
    },
    "training": {"epochs": 12, "learning_rate": 0.001},
}
"""Settings that belong to the families over encoder features."""


def finetuning_recipe(blocks: int) -> dict[str, dict[str, Any]]:
    """Return the settings of the features with which a model trains the blocks up to the default one.

    Args:
        blocks: Number of trained blocks. If there are more than up to the default block, later ones follow.
    """
    (read,) = AudioSpec().encoder_blocks
    return {
        "audio": {"encoder_blocks": [max(read - blocks, 0)], "encoder_pool_frames": 1},
        "transform": {"normalisation": "none"},
    }


ENCODER_CNN = ModelFamily(
    name="encoder_cnn",
    feature_family="encoder",
    hyperparameters_type=EncoderCnnHyperparameters,
    search_space=search_space,
    build=build,
    recipe=ENCODER_RECIPE,
)
