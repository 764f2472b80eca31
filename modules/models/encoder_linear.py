"""A linear classifier over mean and standard deviation of a frozen speech encoder's frames."""

from typing import TYPE_CHECKING

from pydantic import Field

from modules.common.settings import Settings
from modules.models.encoder_cnn import ENCODER_RECIPE, frame_weights, moments
from modules.models.family import FEATURES, VALID_FRAMES, ModelFamily

if TYPE_CHECKING:
    import keras
    import keras_tuner


class EncoderLinearHyperparameters(Settings):
    """Hyperparameters of the linear head."""

    dropout: float = Field(0.5, ge=0, lt=1, description="Share of the clip's statistics that training drops.")


def search_space(
    hp: "keras_tuner.HyperParameters", hyperparameters: EncoderLinearHyperparameters
) -> EncoderLinearHyperparameters:
    """Return the hyperparameters with the searched ones drawn from ``hp``."""
    return hyperparameters.replace(dropout=hp.Float("dropout", 0.0, 0.7, step=0.1, default=0.5))


def build(input_shape: tuple[int, ...], classes: int, hyperparameters: EncoderLinearHyperparameters) -> "keras.Model":
    """Return the uncompiled model; see :class:`modules.models.family.ModelFamily` for its inputs and output."""
    import keras  # here, because settings name this family in processes that do not train

    features = keras.Input(input_shape, name=FEATURES)
    valid_frames = keras.Input((), dtype="int32", name=VALID_FRAMES)
    described = keras.ops.concatenate(moments(features, frame_weights(valid_frames, input_shape[0])), axis=-1)
    described = keras.layers.BatchNormalization()(described)
    described = keras.layers.Dropout(hyperparameters.dropout)(described)
    probabilities = keras.layers.Dense(classes, activation="softmax", dtype="float32")(described)
    return keras.Model({FEATURES: features, VALID_FRAMES: valid_frames}, probabilities, name="encoder_linear")


ENCODER_LINEAR = ModelFamily(
    name="encoder_linear",
    feature_family="encoder",
    hyperparameters_type=EncoderLinearHyperparameters,
    search_space=search_space,
    build=build,
    recipe=ENCODER_RECIPE,
)
