"""EmoDB, the Berlin Database of Emotional Speech: Burkhardt et al. (2005), Interspeech, 1517-1520.

A stem is speaker (two digits), text (letter and two digits), emotion (a letter), version (a letter).
"""

import re

from components.audio_example_gen.corpora.adapter import Finding, Rejected, Tree, UnknownCode, stem_of, translate_code
from modules.data.clips import Clip

NAME = "emodb"
LAYOUT = "03a01Fa.wav"

_STEM = re.compile(r"(\d\d)[ab]\d\d([A-Z])[a-z]?", re.ASCII)
_EMOTIONS = {
    "W": "angry",  # Wut
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happy",  # Freude
    "T": "sad",  # Trauer
    "N": "neutral",
}
# Table of speakers on the page of the corpus.
_SEXES = {
    "03": "male",
    "08": "female",
    "09": "female",
    "10": "male",
    "11": "male",
    "12": "male",
    "13": "female",
    "14": "female",
    "15": "male",
    "16": "female",
}


def read(path: str, tree: Tree) -> Finding | None:
    """Return the clip at a path; None if its name is not EmoDB's.

    Args:
        path: Relative path.
        tree: The ingested folder.
    """
    match = _STEM.fullmatch(stem_of(path))
    if not match:
        return None
    speaker, code = match.groups()
    try:
        emotion = translate_code("emotion", code, _EMOTIONS)
        sex = translate_code("speaker", speaker, _SEXES)
    except UnknownCode as error:
        return Rejected(path, f"named as in EmoDB, but its {error}")
    return Clip(path=path, corpus=NAME, emotion=emotion, speaker=f"{NAME}-{speaker}", sex=sex)
