"""Scan of a folder of recordings, names and sound, before anything is ingested."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping

from components.audio_example_gen.corpora import AUDIO_SUFFIXES, LabelSettings, Rejected, identify, is_hidden
from modules.audio.decoding import DEFAULT_LIMITS, FILE_SIZE, AudioLimits, BadAudio, decode
from modules.common import addresses
from modules.data.clips import Clip

DEFAULT_LABELS = LabelSettings()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sound:
    """A usable recording.

    Attributes:
        clip: Labels from its name.
        duration_sec: Duration in seconds.
        sample_rate_hz: Sample rate of the file.
        digest: SHA-256 of rate and decoded samples: equal for the same sound as WAV and as FLAC.
    """

    clip: Clip
    duration_sec: float
    sample_rate_hz: int
    digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScanReport:
    """Contents of a folder.

    Attributes:
        sounds: The usable recordings, sorted by ``clip_id``.
        rejected: Files that cannot be used, with reasons, sorted by path.
        dropped: Recordings whose label has no place among the seven emotions: how many, by label.
    """

    sounds: tuple[Sound, ...]
    rejected: tuple[Rejected, ...]
    dropped: Mapping[str, int]

    @property
    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Paths of usable recordings that hold the same sound, group by group."""
        groups = collections.defaultdict(list)
        for sound in self.sounds:
            groups[sound.digest].append(sound.clip.path)
        return tuple(sorted(tuple(sorted(paths)) for paths in groups.values() if len(paths) > 1))


def scan(
    root: str,
    *,
    labels: LabelSettings = DEFAULT_LABELS,
    limits: AudioLimits = DEFAULT_LIMITS,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ScanReport:
    """Names and decodes every recording below ``root``; nothing that is found there stops it.

    Args:
        root: An existing folder, local or in a bucket. Links to folders are followed.
        labels: How labels outside the seven emotions are treated.
        limits: What counts as usable sound.
        workers: Threads; decoding leaves the interpreter free. All the machine's cores by default.
        progress: Called with the number of clips decoded so far and the total.
    """
    paths, rejected = _list_files(root)

    def read_text(path: str) -> str:
        return addresses.read_bytes(posixpath.join(root, path)).decode()

    identified = identify(paths, read_text=read_text, labels=labels)
    rejected += identified.rejected
    sounds = []
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        results = pool.map(lambda clip: _listen(root, clip, limits), identified.clips)
        for done, result in enumerate(results, start=1):
            if isinstance(result, Sound):
                sounds.append(result)
            else:
                rejected.append(result)
            progress(done, len(identified.clips))
    rejected.sort(key=lambda file: (file.path, file.reason))
    return ScanReport(sounds=tuple(sounds), rejected=tuple(rejected), dropped=identified.dropped)


def _listen(root: str, clip: Clip, limits: AudioLimits) -> Sound | Rejected:
    try:
        data = addresses.read_bytes(posixpath.join(root, clip.path), max_bytes=limits.max_bytes + 1)
        FILE_SIZE.require(limits, size=len(data))
        recording = decode(data, limits)
    except OSError as error:
        return Rejected(clip.path, _why(error))
    except BadAudio as error:
        return Rejected(clip.path, error.reason)
    digest = hashlib.sha256(str(recording.sample_rate_hz).encode())
    digest.update(recording.samples.tobytes())
    return Sound(
        clip=clip,
        duration_sec=recording.duration_sec,
        sample_rate_hz=recording.sample_rate_hz,
        digest=digest.hexdigest(),
    )


def _list_files(root: str) -> tuple[list[str], list[Rejected]]:
    """Return regular files below ``root``, relative, and other entries that are named like a sound."""
    if addresses.in_bucket(root):
        return addresses.files(root), []
    paths: list[str] = []
    rejected: list[Rejected] = []
    for file in _walk(root, rejected):
        path = os.path.relpath(file, root)
        try:
            mode = os.stat(file).st_mode
        except OSError as error:
            regular, reason = False, "a link to nothing" if os.path.islink(file) else _why(error)
        else:
            regular = stat.S_ISREG(mode)
            reason = "a folder, not a sound file" if stat.S_ISDIR(mode) else "not a regular file"
        if regular:
            paths.append(path)
        elif path.lower().endswith(AUDIO_SUFFIXES) and not is_hidden(path):
            rejected.append(Rejected(path, reason))
    return paths, rejected


def _walk(root: str, rejected: list[Rejected]) -> Iterator[str]:
    """Everything below ``root``, folders included; a folder reached twice through links is entered once."""

    def note(error: OSError) -> None:
        rejected.append(Rejected(os.path.relpath(error.filename, root), _why(error)))

    entered: set[str] = set()
    for folder, subfolders, files in os.walk(root, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders.sort()
        yield from (os.path.join(folder, name) for name in (*subfolders, *files))


def _why(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
