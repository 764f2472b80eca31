"""SAVEE: Haq & Jackson (2010), Machine Audition, IGI Global, 398-423.

Names are ``DC/a01.wav`` as published, and ``DC_a01.wav`` in a common flat copy.
"""

import posixpath
import re

from components.audio_example_gen.corpora.adapter import Finding, Tree, stem_of
from modules.data.clips import Clip

NAME = "savee"
LAYOUT = "DC/a01.wav"

_SPEAKERS = ("DC", "JE", "JK", "KL")
_EMOTIONS = {
    "a": "angry",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprise",
}
_NAME = re.compile(rf"({'|'.join(_SPEAKERS)})_({'|'.join(_EMOTIONS)})\d\d", re.ASCII)


def read(path: str, tree: Tree) -> Finding | None:
    """Return the clip at a path; None if neither its name nor its folder is SAVEE's.

    Args:
        path: Relative path.
        tree: The ingested folder.
    """
    stem = stem_of(path)
    folder = posixpath.basename(posixpath.dirname(path))
    match = _NAME.fullmatch(stem) or _NAME.fullmatch(f"{folder}_{stem}")
    if not match:
        return None
    speaker, emotion = match.groups()
    return Clip(
        path=path,
        corpus=NAME,
        emotion=_EMOTIONS[emotion],
        speaker=f"{NAME}-{speaker}",
        sex="male",  # all four
    )
