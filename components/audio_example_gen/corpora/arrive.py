"""Simulation of new recordings: a batch is moved from a reservoir into the next span.

After any interruption every clip is in the reservoir or in a span. In a local folder a span is built in a hidden folder
and renamed, so it is complete or missing. Buckets have neither renames of folders nor locks: a hidden object names the
span until it is complete, and the AudioExampleGen refuses to read while that object exists. Clips are removed from the
reservoir after their span is complete. The next arrival completes an interrupted one first.
"""

import collections
import contextlib
import os
import posixpath
import random
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence

from components.audio_example_gen.corpora import crema_d, identify, is_hidden, manifest, tables
from components.audio_example_gen.corpora.adapter import Tree, has_name
from modules.common import addresses
from modules.common.errors import SerError
from modules.common.files import require_lock
from modules.data.clips import Clip
from modules.data.labels import LabelSettings
from modules.demo_corpus import MARKER_FILE

SPAN = re.compile(r"span-(\d+)")
ARRIVING_FILE = ".arriving-span"
"""Object in a bucket of spans that names the span being written, and is removed when that is complete."""

_LOCK_FILE = ".arrive.lock"
_TEMPORARY = ".arriving"
_SIDE_FILES = (MARKER_FILE, crema_d.DEMOGRAPHICS_FILE)


class CannotArrive(SerError, ValueError):
    """A span cannot be made from the reservoir."""

    code = "arrive.refused"


class ReservoirTooSmall(CannotArrive):
    """The reservoir has fewer usable clips than the batch needs."""

    code = "arrive.reservoir_too_small"


class ArrivalUnderWay(CannotArrive):
    """Another process is writing a span."""

    code = "arrive.under_way"


def arrive(reservoir: str, into: str, *, clips: int, seed: int = 0) -> str:
    """Move a batch with the reservoir's proportions of corpora, emotions and speakers into the next ``span-K``.

    Args:
        reservoir: Folder of recordings, of any corpora at any depth, local or in a bucket; the batch keeps the paths
            below it.
        into: Folder of the spans; the pipeline reads them with the pattern ``span-{SPAN}/*/*``.
        clips: Size of the batch.
        seed: Seed of the random sample.

    Returns:
        Address of the new span.

    Raises:
        CannotArrive: The reservoir has too few clips, ``into`` is inside of it, or another arrival is under way.
        OSError: A file cannot be read or written.
    """
    reservoir, into = addresses.absolute(reservoir).rstrip("/"), addresses.absolute(into).rstrip("/")
    if f"{into}/".startswith(f"{reservoir}/"):
        raise CannotArrive(f"--into {into} is inside of --reservoir {reservoir}; give a folder outside")
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
    """Return a systematic sample: every n-th clip in the order of corpus, emotion and speaker, from a random start.

    Args:
        clips: All clips.
        size: Size of the sample.
        seed: Seed of the sample.

    Raises:
        ReservoirTooSmall: ``size`` is not between 1 and the number of clips.
    """
    if not 0 < size <= len(clips):
        raise ReservoirTooSmall(f"--clips is {size}; allowed: 1 to {len(clips)}, the usable clips of the reservoir")
    generator = random.Random(seed)
    shuffled = sorted(clips, key=lambda clip: clip.path)
    generator.shuffle(shuffled)
    ordered = sorted(shuffled, key=lambda clip: (clip.corpus, clip.emotion, clip.speaker))
    start = generator.random()
    return [ordered[int((number + start) * len(ordered) / size)] for number in range(size)]


def _identify(root: str, paths: Sequence[str]) -> tuple[Clip, ...]:
    # Calm counts as neutral here; the AudioExampleGen drops it if it is configured to.
    return identify(paths, read_text=_text_below(root), labels=LabelSettings()).clips


def _text_below(root: str) -> Callable[[str], str]:
    return lambda path: addresses.read_bytes(posixpath.join(root, path)).decode()


class _LocalFolder:
    """Spans in a local folder, which are built in a hidden one and renamed."""

    def __init__(self, into: str) -> None:
        self._into = into

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        os.makedirs(self._into, exist_ok=True)
        with open(os.path.join(self._into, _LOCK_FILE), "w") as lock:
            require_lock(lock, ArrivalUnderWay(f"another arrival into {self._into} is under way; wait for its end"))
            yield

    def spans(self) -> list[int]:
        return sorted(int(match[1]) for name in os.listdir(self._into) if (match := SPAN.fullmatch(name)))

    @contextlib.contextmanager
    def appearing(self, span: str) -> Iterator[str]:
        """Yield the folder to write into, which is renamed to the span afterwards."""
        temporary = os.path.join(self._into, _TEMPORARY)
        shutil.rmtree(temporary, ignore_errors=True)  # of an interrupted arrival; its clips are in the reservoir
        yield temporary
        os.rename(temporary, span)
        _sync(self._into)


class _Bucket:
    """Spans in a bucket, which are written in place while a hidden object names them."""

    def __init__(self, into: str) -> None:
        self._into = into
        self._marker = posixpath.join(into, ARRIVING_FILE)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold no lock, since buckets have none: simultaneous arrivals into a bucket may add to each other's span."""
        yield

    def spans(self) -> list[int]:
        """Return the complete spans. Clips of an interrupted one are still in the reservoir and are written again."""
        if not addresses.is_folder(self._into):
            return []
        paths = addresses.files(self._into)
        names = {path.partition("/")[0] for path in paths}
        if ARRIVING_FILE in paths:
            names.discard(addresses.read_bytes(self._marker).decode())
        return sorted(int(match[1]) for name in names if (match := SPAN.fullmatch(name)))

    @contextlib.contextmanager
    def appearing(self, span: str) -> Iterator[str]:
        """Yield the folder to write into."""
        addresses.write_bytes(self._marker, posixpath.basename(span).encode())
        yield span
        addresses.remove(self._marker)


def _write(reservoir: str, folder: str, taken: Collection[str], paths: Sequence[str]) -> None:
    """Copy the batch and its side files, and wait until all of it is stored."""
    side_files = [path for path in paths if has_name(path, *_SIDE_FILES)]
    for path in (*sorted(taken), *side_files):
        addresses.write_bytes(posixpath.join(folder, path), addresses.read_bytes(posixpath.join(reservoir, path)))
    # Without the rows of other recordings, whose files are missing there.
    tree = Tree(paths, read_text=_text_below(reservoir))
    for path, kept in manifest.lines_by_manifest(tree, lambda row: row.path in taken).items():
        text = tables.select(tree.text(path), kept.__contains__)
        addresses.write_bytes(posixpath.join(folder, path), text.encode())


def _leave(reservoir: str, span: str) -> None:
    """Remove the files from the reservoir whose content is in the span."""
    left = set(addresses.files(reservoir))
    emptied = collections.Counter[str]()
    for path in addresses.files(span):
        kept = has_name(path, *_SIDE_FILES, manifest.FILE_NAME)
        if not kept and path in left and _same(posixpath.join(reservoir, path), posixpath.join(span, path)):
            addresses.remove(posixpath.join(reservoir, path))
            emptied[posixpath.dirname(path)] += 1
    if not addresses.in_bucket(reservoir):  # which has no folders
        for folder in filter(None, emptied):
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(os.path.join(reservoir, folder))


def _same(left: str, right: str) -> bool:
    return addresses.read_bytes(left) == addresses.read_bytes(right)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
