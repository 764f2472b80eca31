"""Model families by the name in ``training.family``. A new family is a module and a line here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modules.models.attentive_crnn import ATTENTIVE_CRNN
from modules.models.encoder_cnn import ENCODER_CNN
from modules.models.encoder_linear import ENCODER_LINEAR
from modules.models.family import ModelFamily
from modules.models.original_cnn import ORIGINAL_CNN

if TYPE_CHECKING:
    import keras

FAMILIES: dict[str, ModelFamily[Any]] = {
    "attentive_crnn": ATTENTIVE_CRNN,
    "encoder_cnn": ENCODER_CNN,
    "encoder_linear": ENCODER_LINEAR,
    "original_cnn": ORIGINAL_CNN,
}
DEFAULT_FAMILY = "attentive_crnn"
"""The small network, whose recipe is the defaults of the settings."""

ENCODER_FAMILY = "encoder_cnn"
"""The default where the weights of its encoder are (:mod:`pipeline.default_family`)."""


def family_named(name: str) -> ModelFamily[Any]:
    """Return the family of that name.

    Args:
        name: Key of :data:`FAMILIES`.

    Raises:
        ValueError: No family has this name.
    """
    if name not in FAMILIES:
        raise ValueError(f"allowed: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def build(
    family: str, *, input_shape: tuple[int, ...], classes: int, hyperparameters: Mapping[str, Any] | None = None
) -> "keras.Model":
    """Return an uncompiled model; see :class:`modules.models.family.ModelFamily` for its inputs.

    Args:
        family: Name of the family.
        input_shape: Shape of one clip's features.
        classes: Number of classes.
        hyperparameters: Values in place of the family's defaults.

    Raises:
        ValueError: No family has this name, or it refuses a hyperparameter.
    """
    chosen = family_named(family)
    return chosen.build(input_shape, classes, chosen.hyperparameters(hyperparameters or {}))
