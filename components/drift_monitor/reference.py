"""Training examples of pushed models, from the address that each model carries."""

import posixpath

from tfx.dsl.io import fileio

from modules.common.addresses import read_bytes
from modules.export.contract import AUDIO_SPEC_FILE, EXAMPLES_FILE, EXTRA_ASSETS
from serving.rollout.resolve import endpoint_at, is_endpoint

MODEL_ID = "ser"


def names_model(address: str) -> bool:
    """Return whether an address names pushed models: an endpoint, a folder of versions, or a version.

    Args:
        address: ``vertex://PROJECT/REGION/ENDPOINT`` or a folder, local or in a bucket.
    """
    return is_endpoint(address) or bool(_versions(address))


def training_examples(address: str, *, model_id: str = MODEL_ID) -> list[str]:
    """Return the addresses of the examples that models were trained on, those of the newest version first.

    Of an endpoint it is the stable version alone. Versions that do not carry the address are left out.

    Args:
        address: Address of pushed models; of a folder of versions there may be none.
        model_id: ID of the model in Vertex AI's registry.

    Raises:
        serving.rollout.state.RolloutError: The endpoint cannot be read, or serves no version of the model.
    """
    if is_endpoint(address):
        folders = [endpoint_at(address, model_id=model_id).stable_model_dir()]
    else:
        folders = _versions(address)
    recorded = (_recorded(folder) for folder in folders)
    return [examples for examples in recorded if examples]


def _versions(address: str) -> list[str]:
    """Return the folders of pushed versions, the newest first: the address itself, or folders below."""
    address = address.rstrip("/")
    if _is_version(address):
        return [address]
    if not fileio.exists(address) or not fileio.isdir(address):
        return []
    names = [name.rstrip("/") for name in fileio.listdir(address)]
    numbers = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
    folders = [posixpath.join(address, str(number)) for number in numbers]
    return [folder for folder in folders if _is_version(folder)]


def _is_version(folder: str) -> bool:
    return fileio.exists(posixpath.join(folder, EXTRA_ASSETS, AUDIO_SPEC_FILE))


def _recorded(folder: str) -> str:
    path = posixpath.join(folder, EXTRA_ASSETS, EXAMPLES_FILE)
    return read_bytes(path).decode().strip() if fileio.exists(path) else ""
