"""The model families, by the name that ``training.family`` gives them. A new one is a file and a line here."""

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


def family_named(name: str) -> ModelFamily[Any]:
    """Return the family of that name.

    Raises:
        ValueError: There is no such family.
    """
    if name not in FAMILIES:
        raise ValueError(f"allowed: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def build(
    family: str, *, input_shape: tuple[int, ...], classes: int, hyperparameters: Mapping[str, Any] | None = None
) -> "keras.Model":
    """An uncompiled model of the named family; see :class:`modules.models.family.ModelFamily` for its inputs."""
    chosen = family_named(family)
    return chosen.build(input_shape, classes, chosen.hyperparameters(hyperparameters or {}))
