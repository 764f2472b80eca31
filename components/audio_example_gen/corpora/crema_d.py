"""CREMA-D: Cao et al. (2014), IEEE Transactions on Affective Computing 5(4): 377-390.

A stem is ``actor_sentence_emotion_intensity``. ``VideoDemographics.csv`` has the sex of each actor.
"""

import functools
import re

from components.audio_example_gen.corpora import tables
from components.audio_example_gen.corpora.adapter import Finding, Rejected, Tree, UnknownCode, stem_of, translate_code
from modules.data.clips import Clip

NAME = "crema-d"
LAYOUT = "1001_DFA_ANG_XX.wav"
DEMOGRAPHICS_FILE = "VideoDemographics.csv"

_STEM = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})", re.ASCII)
_EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_INTENSITIES = {
    "LO": "low",
    "MD": "normal",
    "HI": "strong",
    "XX": "unspecified",
    "X": "unspecified",  # a stem of the published corpus, 1040_ITH_SAD_X, lacks a letter
}


def read(path: str, tree: Tree) -> Finding | None:
    """Return the clip at a path; None if its name is not CREMA-D's.

    Args:
        path: Relative path.
        tree: The ingested folder.
    """
    match = _STEM.fullmatch(stem_of(path))
    if not match:
        return None
    actor, _, emotion_code, intensity_code = match.groups()
    try:
        return Clip(
            path=path,
            corpus=NAME,
            emotion=translate_code("emotion", emotion_code, _EMOTIONS),
            speaker=f"{NAME}-{actor}",
            sex=_sexes(path, tree).get(actor, "unknown"),
            intensity=translate_code("intensity", intensity_code, _INTENSITIES),
        )
    except UnknownCode as error:
        return Rejected(path, f"named as in CREMA-D, but its {error}")


def _sexes(path: str, tree: Tree) -> dict[str, str]:
    table = tree.nearest(DEMOGRAPHICS_FILE, path=path)
    return _parse_sexes(tree.text(table)) if table else {}


@functools.lru_cache(maxsize=8)  # thousands of clips share a table
def _parse_sexes(table: str) -> dict[str, str]:
    rows = tables.records(table)
    sexes = {(row.get("ActorID") or "").strip(): (row.get("Sex") or "").strip().lower() for _, row in rows}
    return {actor: sex for actor, sex in sexes.items() if sex in ("female", "male")}
