"""Demo corpus with the layout and names of RAVDESS and a synthetic voice in every file."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from modules.common.errors import SerError
from modules.demo_corpus import MARKER_FILE, SYNTHETIC_TAG
from modules.demo_corpus.espeak import process_espeak
from modules.demo_corpus.prosody import draw_prosody
from modules.demo_corpus.speakers import SPEAKERS, draw_speaker
from modules.demo_corpus.voicing import render

DEFAULT_CLIPS = 672  # four clips of every speaker and emotion
README_FILE = "README.txt"

_SENTENCES = ("Kids are talking by the door.", "Dogs are sitting by the door.")
_EMOTION_CODES = {
    "neutral": "01",
    "happy": "03",
    "sad": "04",
    "angry": "05",
    "fear": "06",
    "disgust": "07",
    "surprise": "08",
}
_EMOTIONS = tuple(_EMOTION_CODES)
_INTENSITY_CODES = {"normal": "01", "strong": "02"}
_MAX_REPETITIONS = 99  # two digits of the file name
MAX_CLIPS = SPEAKERS * len(_EMOTIONS) * len(_SENTENCES) * _MAX_REPETITIONS
_OWN_FILE = re.compile(rf"{re.escape(MARKER_FILE)}|{re.escape(README_FILE)}|Actor_\d\d(/\d\d(-\d\d){{6}}\.wav)?")
_README = f"""A synthetic stand-in for a corpus of emotional speech
===================================================

Nobody speaks here. espeak-ng pronounced every sentence, and pitch, rate, loudness, brightness, tremor and pauses
were changed by rule to resemble seven emotions. It exists to show that the pipeline runs.

NOTHING MEASURED ON THESE FILES IS ACCURACY ON HUMAN SPEECH.

The folders and names follow RAVDESS (Livingstone & Russo 2018), so that the same reader serves both; no recording of
RAVDESS is contained. {MARKER_FILE} marks the difference: leave it here. It also states how to make these
files again. The sound may be used for any purpose.
"""


class OccupiedFolder(SerError, ValueError):
    """An output folder with other files, which are left unchanged."""

    code = "demo_corpus.occupied_folder"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedClip:
    """One clip before synthesis. ``take`` counts the clips of one speaker and emotion from 0."""

    speaker: int
    emotion: str
    take: int
    seed: int

    @property
    def statement(self) -> int:
        """Index of the sentence."""
        return self.take % len(_SENTENCES)

    @property
    def intensity(self) -> str:
        """``normal`` or ``strong``; neutral has no strong form, as in RAVDESS."""
        return "strong" if self.take // 2 % 2 and self.emotion != "neutral" else "normal"

    @property
    def repetition(self) -> int:
        """Repetition of the sentence at this intensity, counted from 1."""
        return self.take // (2 if self.emotion == "neutral" else 4) + 1

    @property
    def path(self) -> str:
        """Path of the file relative to the corpus, as in RAVDESS."""
        codes = f"{_EMOTION_CODES[self.emotion]}-{_INTENSITY_CODES[self.intensity]}"
        stem = f"03-01-{codes}-{self.statement + 1:02d}-{self.repetition:02d}-{self.speaker:02d}"
        return f"Actor_{self.speaker:02d}/{stem}.wav"


def plan(*, clips: int, seed: int) -> list[PlannedClip]:
    """Choose the clips, balanced over speakers and emotions; a smaller plan is part of a larger one.

    Args:
        clips: Number of clips.
        seed: Seed of voices and takes, 0 or above.

    Raises:
        ValueError: A number of clips or a seed out of range.
    """
    if not 1 <= clips <= MAX_CLIPS:
        raise ValueError(f"clips is {clips}; allowed: 1 to {MAX_CLIPS}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; allowed: 0 or above")
    cells = SPEAKERS * len(_EMOTIONS)
    # 24 and 7 are coprime: counting both up together gives every pair once before any pair twice.
    return [
        PlannedClip(speaker=i % SPEAKERS + 1, emotion=_EMOTIONS[i % len(_EMOTIONS)], take=i // cells, seed=seed)
        for i in range(clips)
    ]


def write_corpus(
    out: Path,
    *,
    clips: int = DEFAULT_CLIPS,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Write the corpus to ``out``: 16-bit mono WAV at 22 050 Hz.

    The bytes of the files depend on ``clips`` and ``seed`` only. The folder appears complete, by a rename; a demo
    corpus with other parameters is replaced, one with the same parameters is kept.

    Args:
        out: Folder to write; absent, empty, or an earlier demo corpus.
        clips: Number of clips.
        seed: Seed of voices and takes.
        workers: Number of processes; all cores by default.
        progress: Called with the number of clips written so far and the total.

    Returns:
        Whether files were written; ``False`` if the same corpus existed.

    Raises:
        OccupiedFolder: ``out`` is a file, or holds files of something else.
        ValueError: A number of clips or a seed out of range.
        SynthesisFailed: espeak-ng failed.
    """
    out = out.resolve()
    planned = plan(clips=clips, seed=seed)
    stamp = _stamp(clips=clips, seed=seed)
    if _is_complete(out, planned, stamp):
        return False
    _require_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (out.with_name(f".{out.name}.{suffix}") for suffix in ("partial", "old"))
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        _write_folder(temporary, planned, stamp, workers or os.cpu_count() or 1, progress)
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return True


def _stamp(*, clips: int, seed: int) -> str:
    recipe = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        recipe.update(source.read_bytes())
    content = {
        "synthetic": True,
        "note": "Nothing measured on these files is accuracy on human speech.",
        "clips": clips,
        "seed": seed,
        "recipe": recipe.hexdigest()[:16],
        "espeakng_loader": importlib.metadata.version("espeakng-loader"),
    }
    return json.dumps(content, indent=2) + "\n"


def _is_complete(out: Path, planned: list[PlannedClip], stamp: str) -> bool:
    marker = out / MARKER_FILE
    if not marker.is_file() or marker.read_text(encoding="utf-8") != stamp:
        return False
    return all((out / clip.path).is_file() for clip in planned)


def _require_replaceable(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise OccupiedFolder(f"{out} is a file; name a folder")
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    foreign = [name for name in names if not _OWN_FILE.fullmatch(name)]
    if foreign:
        raise OccupiedFolder(
            f"{out} holds {foreign[0]}, which does not belong to a demo corpus; name an empty or a new folder"
        )
    if names and MARKER_FILE not in names:
        raise OccupiedFolder(f"{out} holds recordings but no {MARKER_FILE}; name an empty or a new folder")


def _write_folder(
    folder: Path, planned: list[PlannedClip], stamp: str, workers: int, progress: Callable[[int, int], None]
) -> None:
    for clip in planned:
        (folder / clip.path).parent.mkdir(parents=True, exist_ok=True)
    for done, _ in enumerate(_write_clips(folder, planned, workers), start=1):
        progress(done, len(planned))
    (folder / README_FILE).write_text(_README, encoding="utf-8")
    (folder / MARKER_FILE).write_text(stamp, encoding="utf-8")


def _write_clips(folder: Path, planned: list[PlannedClip], workers: int) -> Iterator[None]:
    write = functools.partial(_write_clip, folder)
    if workers == 1:
        yield from map(write, planned)
        return
    # Spawned, since a fork would inherit the locks of TensorFlow.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(write, planned, chunksize=8)


def _write_clip(folder: Path, clip: PlannedClip) -> None:
    espeak = process_espeak()
    samples = render(
        espeak,
        _SENTENCES[clip.statement],
        speaker=draw_speaker(clip.speaker, seed=clip.seed),
        prosody=draw_prosody(
            clip.emotion, intensity=clip.intensity, speaker=clip.speaker, take=clip.take, seed=clip.seed
        ),
        rng=np.random.default_rng([clip.seed, clip.speaker, _EMOTIONS.index(clip.emotion), clip.take, 1]),
    )
    rate_hz = espeak.sample_rate_hz
    with soundfile.SoundFile(folder / clip.path, "w", rate_hz, channels=1, subtype="PCM_16") as file:
        file.comment = SYNTHETIC_TAG
        file.write(samples)
