"""RAVDESS: Livingstone & Russo (2018), PLoS ONE 13(5): e0196391.

A stem is ``modality-channel-emotion-intensity-statement-repetition-actor``, two digits each.
"""

import re

from components.audio_example_gen.corpora.adapter import (
    Dropped,
    Finding,
    Rejected,
    Tree,
    UnknownCode,
    stem_of,
    translate_code,
)
from modules.data.clips import Clip
from modules.demo_corpus import CORPUS_NAME as DEMO
from modules.demo_corpus import MARKER_FILE

NAME = "ravdess"
LAYOUT = "03-01-06-01-02-01-12.wav"

_STEM = re.compile(r"\d\d(?:-\d\d){6}", re.ASCII)
_MODALITIES = {"03": "audio-only"}
_CHANNELS = {"01": "speech", "02": "song"}
_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
_INTENSITIES = {"01": "normal", "02": "strong"}
_SEX_BY_PARITY = {1: "male", 0: "female"}
_ACTORS = range(1, 25)


def read(path: str, tree: Tree) -> Finding | None:
    """Return the clip at a path; None if its name is not RAVDESS's.

    Args:
        path: Relative path.
        tree: The ingested folder.
    """
    stem = stem_of(path)
    if not _STEM.fullmatch(stem):
        return None
    try:
        return _describe(path, stem.split("-"), tree)
    except UnknownCode as error:
        return Rejected(path, f"named as in RAVDESS, but its {error}")


def _describe(path: str, fields: list[str], tree: Tree) -> Finding:
    modality, channel, emotion_code, intensity_code, _, _, actor = fields
    # The demo corpus has names like RAVDESS's; the marker keeps its results apart from those on RAVDESS.
    corpus = DEMO if tree.nearest(MARKER_FILE, path=path) else NAME
    translate_code("modality", modality, _MODALITIES)
    if translate_code("channel", channel, _CHANNELS) == "song":
        return Dropped(path, f"{corpus} song", f"{corpus}-{actor}")
    emotion = translate_code("emotion", emotion_code, _EMOTIONS)
    intensity = translate_code("intensity", intensity_code, _INTENSITIES)
    if int(actor) not in _ACTORS:
        raise UnknownCode(f"actor is {actor!r}; known: 01 to 24")
    return Clip(
        path=path,
        corpus=corpus,
        emotion=emotion,
        speaker=f"{corpus}-{actor}",
        sex=_SEX_BY_PARITY[int(actor) % 2],
        intensity=intensity,
    )
