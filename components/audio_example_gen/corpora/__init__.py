"""Corpus, emotion and speaker of recordings, from the names of their files.

A root may have several corpora, each at any depth. The file system does not matter: callers pass a listing and a
function that reads small text files.
"""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from components.audio_example_gen.corpora import crema_d, emodb, manifest, ravdess, savee, tess
from components.audio_example_gen.corpora.adapter import (
    OTHER_ENCODING,
    Dropped,
    Finding,
    Rejected,
    Tree,
    stem_of,
)
from modules.audio import formats
from modules.data.clips import Clip
from modules.data.labels import LabelSettings

__all__ = ["Identified", "Rejected", "identify", "is_hidden", "supported_layouts"]

_ADAPTERS = (ravdess, crema_d, tess, savee, emodb)
_LOSSLESS = (".wav", ".flac")
# Archives of macOS; recycle bins and snapshots of Synology, QNAP and Windows
_SYSTEM_FOLDERS = {"__macosx", "#recycle", "#snapshot", "$recycle.bin", "system volume information"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identified:
    """Recordings of a folder, identified by their names.

    Attributes:
        clips: The usable recordings, sorted by ``clip_id``.
        rejected: Unusable files with reasons, sorted by path.
        dropped: Number of recordings that are passed over: by label that is no emotion of the model, and other
            encodings.
    """

    clips: tuple[Clip, ...]
    rejected: tuple[Rejected, ...]
    dropped: Mapping[str, int]


def identify(paths: Iterable[str], *, read_text: Callable[[str], str], labels: LabelSettings) -> Identified:
    """Return corpus, emotion and speaker of every recording.

    Args:
        paths: All files below the ingested root, relative, with ``/`` between the parts. Hidden files and files
            that are not sound are ignored.
        read_text: Function that reads a side file, such as ``manifest.csv``, by its path. If it raises ``OSError`` or
            ``UnicodeError``, the file is reported as rejected.
        labels: Emotions of the model, and what other labels become.
    """
    visible = [path for path in paths if not is_hidden(path)]
    findings = find(Tree(filter(_is_text, visible), read_text=read_text), labels)
    findings += [_reject_name(path) for path in visible if not _is_text(path)]
    clips = [finding for finding in findings if isinstance(finding, Clip)]
    rejected = [finding for finding in findings if isinstance(finding, Rejected)]
    dropped = collections.Counter(finding.label for finding in findings if isinstance(finding, Dropped))
    return Identified(
        clips=tuple(sorted(clips, key=lambda clip: clip.clip_id)),
        rejected=tuple(sorted(rejected, key=lambda file: (file.path, file.reason))),
        dropped=dict(sorted(dropped.items())),
    )


def find(tree: Tree, labels: LabelSettings) -> list[Finding]:
    """Return what is known of each recording, and each problem of a side file.

    Args:
        tree: The ingested folder.
        labels: Emotions of the model, and what other labels become.
    """
    listed, problems = manifest.read_all(tree, labels)
    findings: list[Finding] = [*listed.values(), *problems]
    findings += _read_names(sorted(tree.paths - listed.keys()), tree)
    findings += [Rejected(path, reason) for path, reason in tree.unreadable.items()]
    return list(_without_other_encodings(_with_emotion(finding, labels) for finding in findings))


def is_hidden(path: str) -> bool:
    """Return whether a file or one of its folders is hidden, or of an archiver or a storage system (``@eaDir``).

    Args:
        path: Relative path with ``/`` between the parts.
    """
    return any(part.startswith((".", "@")) or part.lower() in _SYSTEM_FOLDERS for part in path.split("/"))


def _is_text(path: str) -> bool:
    """Return whether the name is UTF-8; Python represents other bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _reject_name(path: str) -> Rejected:
    try:
        name = os.fsencode(path).decode()
    except UnicodeError:
        return Rejected(path.encode("utf-8", "replace").decode(), "its name is not UTF-8; rename it")
    return Rejected(name, "its name is UTF-8, and the encoding of the locale is not; set PYTHONUTF8=1")


def _read_names(paths: Iterable[str], tree: Tree) -> Iterator[Finding]:
    for path in paths:
        if formats.is_recording(path):
            yield _read_name(path, tree) if formats.is_readable(path) else _reject_format(path)


def _reject_format(path: str) -> Rejected:
    return Rejected(path, f"its format is not read; {formats.advice(through_container=True)}")


def _with_emotion(finding: Finding, labels: LabelSettings) -> Finding:
    if not isinstance(finding, Clip):
        return finding
    emotion = labels.emotion_of(finding.emotion)
    if emotion is None:
        return Dropped(finding.path, f"{finding.corpus} {finding.emotion}", finding.speaker)
    return dataclasses.replace(finding, emotion=emotion)


def _without_other_encodings(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Pass over a compressed recording that also lies there uncompressed, as CREMA-D's AudioMP3 next to AudioWAV."""
    findings = list(findings)
    lossless = {_recording_of(finding) for finding in findings if isinstance(finding, Clip) and _is_lossless(finding)}
    for finding in findings:
        if isinstance(finding, Clip) and not _is_lossless(finding) and _recording_of(finding) in lossless:
            yield Dropped(finding.path, OTHER_ENCODING, finding.speaker)
        else:
            yield finding


def _recording_of(clip: Clip) -> tuple[str, str, str, str]:
    return clip.corpus, clip.speaker, clip.emotion, stem_of(clip.path)


def _is_lossless(clip: Clip) -> bool:
    return clip.path.lower().endswith(_LOSSLESS)


def _read_name(path: str, tree: Tree) -> Finding:
    for adapter in _ADAPTERS:
        finding = adapter.read(path, tree)
        if finding is not None:
            return finding
    return Rejected(path, f"its name follows no known corpus. {supported_layouts()}")


def supported_layouts() -> str:
    """Return a sentence about the supported layouts of folders, for error messages."""
    known = ", ".join(f"{adapter.NAME} ({adapter.LAYOUT})" for adapter in _ADAPTERS)
    return f"Known: {known}; or list the recordings in a {manifest.FILE_NAME} in their folder ({manifest.HEADER})"
