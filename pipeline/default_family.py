"""Model family of a run whose configuration does not name one."""

from typing import NamedTuple

from modules.audio.encoder.catalog import encoder_named
from modules.audio.encoder.weights import weights_file
from modules.audio.spec import AudioSpec
from modules.models import DEFAULT_FAMILY, ENCODER_FAMILY


class DefaultFamily(NamedTuple):
    """A model family and why it is the default.

    Attributes:
        name: Value of ``training.family``.
        reason: Why, without the name.
    """

    name: str
    reason: str


ON_VERTEX = DefaultFamily(ENCODER_FAMILY, "the images hold the encoder's weights")


def on_this_machine() -> DefaultFamily:
    """Return the family over a pretrained encoder if its weights were fetched, otherwise the small network."""
    encoder = encoder_named(AudioSpec().encoder)
    file = weights_file(encoder)
    if file.is_file():
        return DefaultFamily(ENCODER_FAMILY, f"the weights of {encoder.name} are in {file.parent}")
    return DefaultFamily(
        DEFAULT_FAMILY,
        f"the weights of {encoder.name} are not in {file.parent}; `ser encoder fetch` gets them for a better model",
    )


def model_line(family: str, default: DefaultFamily) -> str:
    """Return the line that names the model family of a run.

    Args:
        family: Family of the run.
        default: The default family where the run is.
    """
    return f"Model    {family}: {default.reason}" if family == default.name else f"Model    {family}"
