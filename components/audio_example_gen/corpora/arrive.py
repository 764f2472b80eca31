"""New recordings arrive: a batch leaves a reservoir and becomes the next span, as if it had just been recorded.

Whatever interrupts it, every clip is in the reservoir or in a span. A span appears complete or not at all: it is built
in a hidden folder and renamed. Only then do its clips leave the reservoir; where that was interrupted, the next
arrival ends it first.
"""

import collections
import contextlib
import csv
import fcntl
import filecmp
import io
import os
import random
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from components.audio_example_gen.corpora import crema_d, identify, is_hidden, manifest
from components.audio_example_gen.corpora.adapter import LabelSettings
from modules.data.clips import Clip
from modules.demo_corpus import MARKER_FILE

SPAN = re.compile(r"span-(\d+)")

_LOCK_FILE = ".arrive.lock"
_ASIDE = ".arriving"
_SIDE_FILES = (MARKER_FILE, crema_d.DEMOGRAPHICS_FILE)


class CannotArrive(ValueError):
    """No span was made; the message says why."""


def arrive(reservoir: Path, into: Path, *, clips: int, seed: int = 0) -> Path:
    """Moves a batch, balanced as the reservoir is, into the next ``span-K``.

    Args:
        reservoir: Folder of recordings, of any corpora at any depth; the batch keeps the paths below it.
        into: Folder of the spans; ``span-{SPAN}/*/*`` is the pattern that the pipeline reads them by.
        clips: Size of the batch.
        seed: Another seed draws another batch.

    Returns:
        The new span.

    Raises:
        CannotArrive: The reservoir has not as many clips, or another arrival is under way.
        OSError: A file cannot be read or written.
    """
    if into.resolve().is_relative_to(reservoir.resolve()):
        raise CannotArrive(f"{into} lies inside the reservoir {reservoir}; spans would arrive again")
    into.mkdir(parents=True, exist_ok=True)
    with _locked(into):
        shutil.rmtree(into / _ASIDE, ignore_errors=True)  # of an interrupted arrival; its clips are in the reservoir
        spans = _spans(into)
        if spans:
            _leave(reservoir, spans[max(spans)])
        paths = [path.relative_to(reservoir).as_posix() for path in sorted(reservoir.rglob("*")) if path.is_file()]
        batch = choose(_identify(reservoir, paths), clips, seed)
        taken = {clip.path for clip in batch}
        _write(reservoir, into / _ASIDE, taken, [path for path in paths if not is_hidden(path)])
        span = into / f"span-{max(spans, default=0) + 1}"
        (into / _ASIDE).rename(span)
        _sync(into)
        _leave(reservoir, span)
    return span


def choose(clips: Sequence[Clip], size: int, seed: int) -> list[Clip]:
    """Every n-th clip in the order of corpus, emotion and speaker: each has its share of the batch.

    Raises:
        CannotArrive: There are not as many.
    """
    if not 0 < size <= len(clips):
        raise CannotArrive(f"{size} clips were asked for; the reservoir has {len(clips)} that can be used")
    lots = random.Random(seed)
    mixed = sorted(clips, key=lambda clip: clip.path)
    lots.shuffle(mixed)
    ordered = sorted(mixed, key=lambda clip: (clip.corpus, clip.emotion, clip.speaker))
    start = lots.random()
    return [ordered[int((number + start) * len(ordered) / size)] for number in range(size)]


def _identify(root: Path, paths: Sequence[str]) -> tuple[Clip, ...]:
    # Calm is neutral to the balance, and dropped only when the span is read, if it is.
    return identify(paths, read_text=lambda path: (root / path).read_text("utf-8"), labels=LabelSettings()).clips


def _spans(into: Path) -> dict[int, Path]:
    matches = ((SPAN.fullmatch(path.name), path) for path in into.iterdir())
    return {int(match[1]): path for match, path in matches if match}


def _write(reservoir: Path, folder: Path, taken: Collection[str], paths: Sequence[str]) -> None:
    """Copies the batch and what its names cannot say, and waits until the disk has it."""
    side_files = [path for path in paths if Path(path).name in _SIDE_FILES]
    for path in (*sorted(taken), *side_files):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(reservoir / path, target)
        _sync(target)
    for path in paths:
        if Path(path).name == manifest.FILE_NAME:
            _write_manifest(reservoir, folder, path, taken)


def _write_manifest(reservoir: Path, folder: Path, path: str, taken: Collection[str]) -> None:
    """Its rows about the batch; a row about a file that is not there would be complained of."""
    reader = csv.DictReader(io.StringIO((reservoir / path).read_text("utf-8-sig"), newline=""))
    named = {name.strip().lower(): name for name in reader.fieldnames or ()}
    here = Path(path).parent
    rows = [row for row in reader if os.path.normpath(here / (row[named["path"]] or "").strip()) in taken]
    if not rows:
        return
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, reader.fieldnames or ())
        writer.writeheader()
        writer.writerows(rows)
    _sync(target)


def _leave(reservoir: Path, span: Path) -> None:
    """Removes from the reservoir what the span holds, byte by byte."""
    emptied = collections.Counter[Path]()
    for arrived in span.rglob("*"):
        left = reservoir / arrived.relative_to(span)
        kept = arrived.name in (*_SIDE_FILES, manifest.FILE_NAME)
        if not kept and arrived.is_file() and left.is_file() and filecmp.cmp(arrived, left, shallow=False):
            left.unlink()
            emptied[left.parent] += 1
    for folder in emptied:
        if folder != reservoir:
            with contextlib.suppress(OSError):  # others are still in it
                folder.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(into: Path) -> Iterator[None]:
    with (into / _LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotArrive(f"another arrival into {into} is under way; wait for it") from None
        yield
