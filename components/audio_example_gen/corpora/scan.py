"""Check of a folder of recordings, names and sound, without ingesting it."""

import concurrent.futures
import dataclasses
import os
import posixpath
from collections.abc import Callable, Mapping

from components.audio_example_gen import same_sound
from components.audio_example_gen.corpora import Rejected, identify, is_hidden
from modules.audio import formats
from modules.audio.decoding import DEFAULT_LIMITS, FILE_SIZE, AudioLimits, BadAudio, decode
from modules.common import addresses
from modules.common.files import fault_of
from modules.data.clips import Clip
from modules.data.labels import LabelSettings

DEFAULT_LABELS = LabelSettings()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sound:
    """A usable recording.

    Attributes:
        clip: Corpus, emotion and speaker by its name.
        duration_sec: Duration in seconds.
        sample_rate_hz: Sample rate of the file in hertz.
        digest: Digest of the sound, :attr:`modules.audio.decoding.Recording.digest`.
    """

    clip: Clip
    duration_sec: float
    sample_rate_hz: int
    digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScanReport:
    """Recordings of a folder.

    Attributes:
        sounds: The usable recordings, sorted by ``clip_id``.
        rejected: Unusable files with reasons, sorted by path.
        dropped: See :class:`components.audio_example_gen.corpora.Identified`.
    """

    sounds: tuple[Sound, ...]
    rejected: tuple[Rejected, ...]
    dropped: Mapping[str, int]

    @property
    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Groups of paths of usable recordings with the same sound."""
        same = same_sound.groups((sound.clip, sound.digest) for sound in self.sounds)
        return tuple(sorted(tuple(sorted(clip.path for clip in clips)) for clips in same))


def scan(
    root: str,
    *,
    labels: LabelSettings = DEFAULT_LABELS,
    limits: AudioLimits = DEFAULT_LIMITS,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ScanReport:
    """Identify and decode every recording of a folder. Unusable files are reported, not raised.

    Args:
        root: An existing folder, local or in a bucket. Links to folders are followed.
        labels: Emotions of the model, and what other labels become.
        limits: Limits of usable sound.
        workers: Number of threads, since decoding releases the interpreter's lock; by default that of the cores.
        progress: Called with the number of decoded clips and the total.

    Returns:
        The recordings of the folder.
    """
    paths, rejected = _list_files(root)

    def read_text(path: str) -> str:
        return addresses.read_bytes(posixpath.join(root, path)).decode()

    identified = identify(paths, read_text=read_text, labels=labels)
    rejected += identified.rejected
    sounds = []
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        results = pool.map(lambda clip: _decode(root, clip, limits), identified.clips)
        for done, result in enumerate(results, start=1):
            if isinstance(result, Sound):
                sounds.append(result)
            else:
                rejected.append(result)
            progress(done, len(identified.clips))
    reasons = same_sound.contradictions((sound.clip, sound.digest) for sound in sounds)
    rejected += [Rejected(s.clip.path, reasons[s.clip.clip_id]) for s in sounds if s.clip.clip_id in reasons]
    sounds = [sound for sound in sounds if sound.clip.clip_id not in reasons]
    rejected.sort(key=lambda file: (file.path, file.reason))
    return ScanReport(sounds=tuple(sounds), rejected=tuple(rejected), dropped=identified.dropped)


def _decode(root: str, clip: Clip, limits: AudioLimits) -> Sound | Rejected:
    try:
        data = addresses.read_bytes(posixpath.join(root, clip.path), max_bytes=limits.max_bytes + 1)
        FILE_SIZE.require(limits, size=len(data))
        recording = decode(data, limits)
    except OSError as error:
        return Rejected(clip.path, _reason(error))
    except BadAudio as error:
        return Rejected(clip.path, error.reason)
    return Sound(
        clip=clip,
        duration_sec=recording.duration_sec,
        sample_rate_hz=recording.sample_rate_hz,
        digest=recording.digest,
    )


def _list_files(root: str) -> tuple[list[str], list[Rejected]]:
    """Return regular files below ``root``, relative, and rejected other entries with the suffix of sound files."""
    if addresses.in_bucket(root):
        return addresses.files(root), []
    paths: list[str] = []
    rejected: list[Rejected] = []

    def note(error: OSError) -> None:
        rejected.append(Rejected(os.path.relpath(error.filename, root), _reason(error)))

    for file in addresses.walk(root, on_error=note):
        path = os.path.relpath(file, root)
        fault = fault_of(file)
        if not fault:
            paths.append(path)
        elif formats.is_recording(path) and not is_hidden(path):
            rejected.append(Rejected(path, fault))
    return paths, rejected


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
