"""The contract of a model, in files next to its graph: audio spec, names of the outputs, limits of recordings.

Imports nothing heavy: the server's and the client's start depend on it.
"""

import json
import os
import posixpath
from typing import NamedTuple

from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits
from modules.audio.spec import AudioSpec
from modules.common import addresses

# TF Serving reads this folder for warm-up requests and copies nothing else out of it.
EXTRA_ASSETS = "assets.extra"
AUDIO_SPEC_FILE = "audio_spec.json"
LABELS_FILE = "labels.json"
LIMITS_FILE = "audio_limits.json"
MODEL_FILE = "model.json"
PROTOCOL_FILE = "protocol.json"  # hashes of the speakers of each split, which the evaluation of a later candidate needs
EXAMPLES_FILE = "training_examples"  # address of the examples that the model was trained on, the reference of drift
STATISTICS_FILE = "plain_statistics.json"  # of the normalised plain training clips, which an adaptation needs
WARMUP_FILE = "tf_serving_warmup_requests"

NO_SPEECH = "no_speech"
"""Value of the output ``emotion`` where the output ``speech`` is below ``min_speech`` of the contract's limits."""

NOT_SURE = "not_sure"
"""Value of the output ``emotion`` where the output ``confidence`` is below ``min_confidence`` of these limits."""

LEAST_WEIGHT = 1e-6
"""Weight of a window without speech in the mean of a recording, so that those without any have probabilities, too."""


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

    Models exported before contracts held limits have the default ones.

    Args:
        model_dir: Folder of the SavedModel, local or in a bucket.

    Raises:
        FileNotFoundError: ``model_dir`` holds no model that this project exported.
    """

    def read(name: str) -> str:
        return addresses.read_bytes(posixpath.join(os.fspath(model_dir), EXTRA_ASSETS, name)).decode()

    try:
        spec, labels = read(AUDIO_SPEC_FILE), read(LABELS_FILE)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{model_dir} was not exported by this project: it has no {EXTRA_ASSETS}/{AUDIO_SPEC_FILE}; name the "
            "folder of a version, such as output/serving/3"
        ) from error
    try:
        limits = AudioLimits.from_json(read(LIMITS_FILE))
    except FileNotFoundError:
        limits = DEFAULT_LIMITS
    return Contract(AudioSpec.from_json(spec), tuple(json.loads(labels)), limits)
