"""Interface of a model family to the trainer, the tuner, the signatures and the server."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from modules.audio.spec import FeatureFamily
from modules.common.settings import Settings, explain

if TYPE_CHECKING:  # both import TensorFlow, which commands that only read settings do without
    import keras
    import keras_tuner

# Names of the two inputs of every family's model, as in the examples.
FEATURES = "features"
VALID_FRAMES = "valid_frames"

HyperparametersT = TypeVar("HyperparametersT", bound=Settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFamily(Generic[HyperparametersT]):
    """One architecture with its adjustable parts.

    Attributes:
        name: Name in ``training.family``.
        feature_family: Features that it reads; see :class:`modules.audio.spec.AudioSpec`.
        hyperparameters_type: Settings with the family's defaults.
        search_space: Function that draws hyperparameters from a KerasTuner ``HyperParameters`` and returns the given
            ones with those replaced. It uses the names of the settings, so that another call reads back the values
            that a search found.
        build: Function of the shape of one clip's features, the number of classes and the hyperparameters that returns
            the uncompiled model. Its inputs are ``{"features": float32 [batch, *shape], "valid_frames": int32
            [batch]}``, normalised, with zeros beyond the valid frames; its output is float32 probabilities ``[batch,
            classes]``. It consists of Keras operations only, so that it trains on any backend. Augmentation is a layer
            that acts when ``training`` is true.
        recipe: Values of the configuration, by section and key, that differ from the defaults of the settings.
    """

    name: str
    feature_family: FeatureFamily
    hyperparameters_type: type[HyperparametersT]
    search_space: Callable[["keras_tuner.HyperParameters", HyperparametersT], HyperparametersT]
    build: Callable[[tuple[int, ...], int, HyperparametersT], "keras.Model"]
    recipe: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def hyperparameters(self, values: Mapping[str, Any]) -> HyperparametersT:
        """Return the family's hyperparameters with ``values`` in place of its defaults.

        Args:
            values: Values by name.

        Raises:
            ValueError: A name or value is not allowed.
        """
        try:
            return self.hyperparameters_type.model_validate(dict(values))
        except ValidationError as error:
            raise ValueError(explain(error, self.hyperparameters_type)) from None
