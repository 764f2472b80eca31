"""TESS, the Toronto Emotional Speech Set: Pichora-Fuller & Dupuis (2020), doi:10.5683/SP2/E8H2MF.

A stem is ``speaker_word_emotion``. Folders are ignored, since copies differ in their case and wording.
"""

import re

from components.audio_example_gen.corpora.adapter import Finding, Tree, stem_of
from modules.data.clips import Clip

NAME = "tess"
LAYOUT = "OAF_back_angry.wav"

_EMOTIONS = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprise",  # "pleasant surprise"
    "sad": "sad",
}
_SPEAKERS = {
    "OAF": "OAF",
    "OA": "OAF",  # a stem of the published corpus, OA_bite_neutral, lacks a letter
    "YAF": "YAF",
}
_STEM = re.compile(rf"({'|'.join(_SPEAKERS)})_[A-Za-z]+_({'|'.join(_EMOTIONS)})")


def read(path: str, tree: Tree) -> Finding | None:
    """Return the clip at a path; None if its name is not TESS's.

    Args:
        path: Relative path.
        tree: The ingested folder.
    """
    match = _STEM.fullmatch(stem_of(path))
    if not match:
        return None
    speaker, emotion = match.groups()
    return Clip(
        path=path,
        corpus=NAME,
        emotion=_EMOTIONS[emotion],
        speaker=f"{NAME}-{_SPEAKERS[speaker]}",
        sex="female",  # an older and a younger actress
    )
