"""What a model says about itself beside its graph: the audio spec it was made for and the names of its outputs.

Imports nothing heavy: the server's and the client's start depend on it.
"""

import json
from pathlib import Path

from modules.audio.spec import AudioSpec

# TF Serving reads this folder for warm-up requests and copies nothing else out of it.
EXTRA_ASSETS = "assets.extra"
AUDIO_SPEC_FILE = "audio_spec.json"
LABELS_FILE = "labels.json"
MODEL_FILE = "model.json"
PROTOCOL_FILE = "protocol.json"  # speakers of each split, which the evaluation of a later candidate needs
WARMUP_FILE = "tf_serving_warmup_requests"


def load_contract(model_dir: str | Path) -> tuple[AudioSpec, tuple[str, ...]]:
    """The audio spec and the output labels, in order, of the SavedModel in ``model_dir``.

    Raises:
        FileNotFoundError: ``model_dir`` holds no model that this project exported.
    """
    folder = Path(model_dir) / EXTRA_ASSETS
    for name in (AUDIO_SPEC_FILE, LABELS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing: {model_dir} was not exported by this project")
    spec = AudioSpec.from_json((folder / AUDIO_SPEC_FILE).read_text())
    return spec, tuple(json.loads((folder / LABELS_FILE).read_text()))
