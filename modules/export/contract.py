"""What a model says about itself beside its graph: the audio spec it was made for and the names of its outputs.

Imports nothing heavy: the server's and the client's start depend on it.
"""

import json
import os
import posixpath

from modules.audio.spec import AudioSpec
from modules.common import addresses

# TF Serving reads this folder for warm-up requests and copies nothing else out of it.
EXTRA_ASSETS = "assets.extra"
AUDIO_SPEC_FILE = "audio_spec.json"
LABELS_FILE = "labels.json"
MODEL_FILE = "model.json"
WARMUP_FILE = "tf_serving_warmup_requests"


def load_contract(model_dir: str | os.PathLike[str]) -> tuple[AudioSpec, tuple[str, ...]]:
    """The audio spec and the output labels, in order, of the SavedModel in ``model_dir``.

    Raises:
        FileNotFoundError: ``model_dir`` holds no model that this project exported.
    """
    paths = [posixpath.join(os.fspath(model_dir), EXTRA_ASSETS, name) for name in (AUDIO_SPEC_FILE, LABELS_FILE)]
    try:
        spec, labels = (addresses.read_bytes(path).decode() for path in paths)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}: {model_dir} was not exported by this project") from error
    return AudioSpec.from_json(spec), tuple(json.loads(labels))
