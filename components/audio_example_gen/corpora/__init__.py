"""Corpus, emotion and speaker of recordings, from the names of their files.

A root may have several corpora, each at any depth. The file system does not matter: callers pass a listing and a
function that reads small text files.
"""

import collections
import dataclasses
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping

from components.audio_example_gen.corpora import crema_d, emodb, manifest, ravdess, savee, tess
from components.audio_example_gen.corpora.adapter import (
    AUDIO_SUFFIXES,
    Dropped,
    Finding,
    LabelSettings,
    Rejected,
    Tree,
)
from modules.data.clips import Clip

__all__ = ["AUDIO_SUFFIXES", "Identified", "LabelSettings", "Rejected", "identify", "is_hidden", "supported_layouts"]

_ADAPTERS = (ravdess, crema_d, tess, savee, emodb)
_UNREAD_SUFFIXES = (".aac", ".aif", ".aiff", ".au", ".m4a", ".mp3", ".ogg", ".opus", ".wma")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identified:
    """Recordings of a folder, identified by their names.

    Attributes:
        clips: The usable recordings, sorted by ``clip_id``.
        rejected: Unusable files with reasons, sorted by path.
        dropped: Number of recordings with a label outside the seven emotions, by label.
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
        labels: Settings of labels outside the seven emotions.
    """
    visible = [path for path in paths if not is_hidden(path)]
    tree = Tree(filter(_is_text, visible), read_text=read_text, labels=labels)
    listed, problems = manifest.read_all(tree)
    findings: list[Finding] = [*listed.values(), *problems]
    findings += [_reject_name(path) for path in visible if not _is_text(path)]
    findings += _read_names(sorted(tree.paths - listed.keys()), tree)
    findings += [Rejected(path, reason) for path, reason in tree.unreadable.items()]
    clips = [finding for finding in findings if isinstance(finding, Clip)]
    rejected = [finding for finding in findings if isinstance(finding, Rejected)]
    dropped = collections.Counter(finding.label for finding in findings if isinstance(finding, Dropped))
    return Identified(
        clips=tuple(sorted(clips, key=lambda clip: clip.clip_id)),
        rejected=tuple(sorted(rejected, key=lambda file: (file.path, file.reason))),
        dropped=dict(sorted(dropped.items())),
    )


def is_hidden(path: str) -> bool:
    """Return whether a file or one of its folders is hidden or a remnant of an archiver.

    Args:
        path: Relative path with ``/`` between the parts.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _is_text(path: str) -> bool:
    """Return whether the name is UTF-8; Python represents other bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _reject_name(path: str) -> Rejected:
    return Rejected(path.encode("utf-8", "replace").decode(), "its name is not UTF-8; rename it")


def _read_names(paths: Iterable[str], tree: Tree) -> Iterator[Finding]:
    for path in paths:
        suffix = posixpath.splitext(path)[1].lower()
        if suffix in AUDIO_SUFFIXES:
            yield _read_name(path, tree)
        elif suffix in _UNREAD_SUFFIXES:
            yield Rejected(path, f"{suffix} is not read; convert it to {' or '.join(AUDIO_SUFFIXES)}")


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
