"""What a model family has to say about itself to fit the trainer, the tuner, the signatures and the server."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from modules.audio.spec import FeatureFamily
from modules.common.settings import Settings, explain

if TYPE_CHECKING:  # both bring TensorFlow along, and settings are checked where nobody trains
    import keras
    import keras_tuner

# Names of the two inputs of every family's model. They are the names in the examples too.
FEATURES = "features"
VALID_FRAMES = "valid_frames"

HyperparametersT = TypeVar("HyperparametersT", bound=Settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFamily(Generic[HyperparametersT]):
    """One architecture with its adjustable parts.

    Attributes:
        name: What ``training.family`` calls it.
        feature_family: The features it reads, see :class:`modules.audio.spec.AudioSpec`.
        hyperparameters_type: Settings whose defaults are the family's own and which refuse values that make no model.
        search_space: Draws from a KerasTuner ``HyperParameters`` the attributes worth searching and returns
            the given hyperparameters with those replaced. It names them as the settings do, so that the
            values a search found can be read back by calling it again.
        build: Makes the uncompiled model from the shape of one clip's features, the number of classes and
            the hyperparameters. Its inputs are ``{"features": float32 [batch, *shape], "valid_frames":
            int32 [batch]}``, normalised, with zeros beyond the valid frames; its output is float32
            probabilities ``[batch, classes]``. Only Keras operations, so that it trains on any backend.
            Augmentation is a layer that acts when ``training`` is true.
        recipe: The family's own values of the configuration, by section and key, where they differ from the defaults of
            the settings: the features that it was designed for and the training that suits it.
    """

    name: str
    feature_family: FeatureFamily
    hyperparameters_type: type[HyperparametersT]
    search_space: Callable[["keras_tuner.HyperParameters", HyperparametersT], HyperparametersT]
    build: Callable[[tuple[int, ...], int, HyperparametersT], "keras.Model"]
    recipe: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def hyperparameters(self, values: Mapping[str, Any]) -> HyperparametersT:
        """Return the family's hyperparameters with ``values`` in place of its defaults.

        Raises:
            ValueError: A name the family does not have, or a value that it refuses.
        """
        try:
            return self.hyperparameters_type.model_validate(dict(values))
        except ValidationError as error:
            raise ValueError(explain(error, self.hyperparameters_type)) from None
