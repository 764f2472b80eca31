"""The contract of a model, in files next to its graph: audio spec, names of the outputs, limits of recordings.

Imports nothing heavy: the server's and the client's start depend on it.
"""

import json
import os
import posixpath
from typing import NamedTuple

from modules.audio.decoding import AudioLimits
from modules.audio.spec import AudioSpec
from modules.common import addresses

# TF Serving reads this folder for warm-up requests and copies nothing else out of it.
EXTRA_ASSETS = "assets.extra"
AUDIO_SPEC_FILE = "audio_spec.json"
LABELS_FILE = "labels.json"
LIMITS_FILE = "audio_limits.json"
MODEL_FILE = "model.json"
PROTOCOL_FILE = "protocol.json"  # speakers of each split, which the evaluation of a later candidate needs
WARMUP_FILE = "tf_serving_warmup_requests"


class Contract(NamedTuple):
    """Interface of a model for its callers.

    Attributes:
        audio_spec: Parameters of the features.
        labels: Names of the probabilities, in order.
        limits: Limits of a usable recording.
    """

    audio_spec: AudioSpec
    labels: tuple[str, ...]
    limits: AudioLimits

    def files(self) -> dict[str, str]:
        """Return the text of each file of the contract, by its name below :data:`EXTRA_ASSETS`."""
        return {
            AUDIO_SPEC_FILE: self.audio_spec.to_json(),
            LABELS_FILE: json.dumps(self.labels),
            LIMITS_FILE: self.limits.to_json(),
        }


def load_contract(model_dir: str | os.PathLike[str]) -> Contract:
    """Return the contract of the SavedModel in ``model_dir``.

    Raises:
        FileNotFoundError: ``model_dir`` holds no model that this project exported.
    """
    names = (AUDIO_SPEC_FILE, LABELS_FILE, LIMITS_FILE)
    paths = [posixpath.join(os.fspath(model_dir), EXTRA_ASSETS, name) for name in names]
    try:
        spec, labels, limits = (addresses.read_bytes(path).decode() for path in paths)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}: {model_dir} was not exported by this project") from error
    return Contract(AudioSpec.from_json(spec), tuple(json.loads(labels)), AudioLimits.from_json(limits))
