"""Arrival of new recordings: a batch is moved from a reservoir to the next span.

Whatever interrupts it, every clip is in the reservoir or in a span. In a local folder a span appears complete or not at
all: it is built in a hidden folder and renamed. Buckets have neither folders to rename nor locks: there a hidden object
names the span until it is complete, and the AudioExampleGen reads no recordings while there is one. Only then do the
clips leave the reservoir. The next arrival ends an interrupted one first.
"""

import collections
import contextlib
import csv
import fcntl
import io
import os
import posixpath
import random
import re
import shutil
from collections.abc import Collection, Iterator, Sequence

from components.audio_example_gen.corpora import crema_d, identify, is_hidden, manifest
from components.audio_example_gen.corpora.adapter import LabelSettings
from modules.common import addresses
from modules.data.clips import Clip
from modules.demo_corpus import MARKER_FILE

SPAN = re.compile(r"span-(\d+)")
ARRIVING_FILE = ".arriving-span"
"""Object next to the spans of a bucket that names the span which is still being written."""

_LOCK_FILE = ".arrive.lock"
_TEMPORARY = ".arriving"
_SIDE_FILES = (MARKER_FILE, crema_d.DEMOGRAPHICS_FILE)


class CannotArrive(ValueError):
    """No span was made; the message gives the reason."""


def arrive(reservoir: str, into: str, *, clips: int, seed: int = 0) -> str:
    """Move a batch, balanced as the reservoir is, into the next ``span-K``.

    Args:
        reservoir: Folder of recordings, of any corpora at any depth, local or in a bucket; the batch keeps the paths
            below it.
        into: Folder of the spans; ``span-{SPAN}/*/*`` is the pattern that the pipeline reads them by.
        clips: Size of the batch.
        seed: Another seed draws another batch.

    Returns:
        The new span.

    Raises:
        CannotArrive: The reservoir has not as many clips, or another arrival is under way.
        OSError: A file cannot be read or written.
    """
    reservoir, into = addresses.absolute(reservoir).rstrip("/"), addresses.absolute(into).rstrip("/")
    if f"{into}/".startswith(f"{reservoir}/"):
        raise CannotArrive(f"{into} lies inside the reservoir {reservoir}; spans would arrive again")
    place = _Bucket(into) if addresses.in_bucket(into) else _LocalFolder(into)
    with place.locked():
        spans = place.spans()
        if spans:
            _leave(reservoir, posixpath.join(into, f"span-{spans[-1]}"))
        paths = addresses.files(reservoir)
        batch = choose(_identify(reservoir, paths), clips, seed)
        span = posixpath.join(into, f"span-{spans[-1] + 1 if spans else 1}")
        with place.appearing(span) as folder:
            _write(reservoir, folder, {clip.path for clip in batch}, [path for path in paths if not is_hidden(path)])
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


def _identify(root: str, paths: Sequence[str]) -> tuple[Clip, ...]:
    # Calm is neutral to the balance, and dropped only when the span is read, if it is.
    def read_text(path: str) -> str:
        return addresses.read_bytes(posixpath.join(root, path)).decode()

    return identify(paths, read_text=read_text, labels=LabelSettings()).clips


class _LocalFolder:
    """Spans in a local folder: built in a hidden one and renamed."""

    def __init__(self, into: str) -> None:
        self._into = into

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        os.makedirs(self._into, exist_ok=True)
        with open(os.path.join(self._into, _LOCK_FILE), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotArrive(f"another arrival into {self._into} is under way; wait for it") from None
            yield

    def spans(self) -> list[int]:
        return sorted(int(found[1]) for name in os.listdir(self._into) if (found := SPAN.fullmatch(name)))

    @contextlib.contextmanager
    def appearing(self, span: str) -> Iterator[str]:
        """Yield the folder to write into, which becomes the span at the end."""
        temporary = os.path.join(self._into, _TEMPORARY)
        shutil.rmtree(temporary, ignore_errors=True)  # of an interrupted arrival; its clips are in the reservoir
        yield temporary
        os.rename(temporary, span)
        _sync(self._into)


class _Bucket:
    """Spans in a bucket: written in place; a hidden object marks the span as incomplete."""

    def __init__(self, into: str) -> None:
        self._into = into
        self._marker = posixpath.join(into, ARRIVING_FILE)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nothing to hold: of two arrivals at once into one bucket, each may add to the other's span."""
        yield

    def spans(self) -> list[int]:
        """Return the complete spans; files of an interrupted arrival are still in the reservoir."""
        if not addresses.is_folder(self._into):
            return []
        paths = addresses.files(self._into)
        found = {path.partition("/")[0] for path in paths}
        if ARRIVING_FILE in paths:
            found.discard(addresses.read_bytes(self._marker).decode())
        return sorted(int(match[1]) for name in found if (match := SPAN.fullmatch(name)))

    @contextlib.contextmanager
    def appearing(self, span: str) -> Iterator[str]:
        """Yield the folder to write into."""
        addresses.write_bytes(self._marker, posixpath.basename(span).encode())
        yield span
        addresses.remove(self._marker)


def _write(reservoir: str, folder: str, taken: Collection[str], paths: Sequence[str]) -> None:
    """Copy the batch and its side files, and wait until all of it is stored."""
    side_files = [path for path in paths if posixpath.basename(path) in _SIDE_FILES]
    for path in (*sorted(taken), *side_files):
        addresses.write_bytes(posixpath.join(folder, path), addresses.read_bytes(posixpath.join(reservoir, path)))
    for path in paths:
        if posixpath.basename(path) == manifest.FILE_NAME:
            _write_manifest(reservoir, folder, path, taken)


def _write_manifest(reservoir: str, folder: str, path: str, taken: Collection[str]) -> None:
    """Its rows about the batch; a row about a file that is not there would be complained of."""
    text = addresses.read_bytes(posixpath.join(reservoir, path)).decode("utf-8-sig")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    named = {name.strip().lower(): name for name in reader.fieldnames or ()}
    here = posixpath.dirname(path)
    rows = [
        row for row in reader if posixpath.normpath(posixpath.join(here, (row[named["path"]] or "").strip())) in taken
    ]
    if not rows:
        return
    cut = io.StringIO(newline="")
    writer = csv.DictWriter(cut, reader.fieldnames or ())
    writer.writeheader()
    writer.writerows(rows)
    addresses.write_bytes(posixpath.join(folder, path), cut.getvalue().encode())


def _leave(reservoir: str, span: str) -> None:
    """Remove from the reservoir the files that are in the span with identical bytes."""
    left = set(addresses.files(reservoir))
    emptied = collections.Counter[str]()
    for path in addresses.files(span):
        kept = posixpath.basename(path) in (*_SIDE_FILES, manifest.FILE_NAME)
        if not kept and path in left and _same(posixpath.join(reservoir, path), posixpath.join(span, path)):
            addresses.remove(posixpath.join(reservoir, path))
            emptied[posixpath.dirname(path)] += 1
    if not addresses.in_bucket(reservoir):  # which has no folders
        for folder in filter(None, emptied):
            with contextlib.suppress(OSError):  # others are still in it
                os.rmdir(os.path.join(reservoir, folder))


def _same(left: str, right: str) -> bool:
    return addresses.read_bytes(left) == addresses.read_bytes(right)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
