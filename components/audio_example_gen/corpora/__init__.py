"""Emotion and speaker of each recording, from the names of files, without their sound.

One root may hold several corpora, each at any depth. Works on any file system: it is given a listing and a way
to read small text files.
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
    """Recordings that are identified by the names in a folder.

    Attributes:
        clips: The usable recordings, sorted by ``clip_id``.
        rejected: Files that cannot be used, with reasons, sorted by path.
        dropped: Number of recordings with a label outside the seven emotions, by label.
    """

    clips: tuple[Clip, ...]
    rejected: tuple[Rejected, ...]
    dropped: Mapping[str, int]


def identify(paths: Iterable[str], *, read_text: Callable[[str], str], labels: LabelSettings) -> Identified:
    """Names corpus, emotion and speaker of every recording.

    Args:
        paths: All files below the ingested root, relative, with ``/`` between the parts. Hidden files and files
            that are not sound are passed over.
        read_text: Reads a side file, such as ``manifest.csv``, given its path. Where it cannot, it raises
            ``OSError`` or ``UnicodeError``, and the file is reported as rejected.
        labels: How labels outside the seven emotions are treated.
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
    """Return whether the file, or a folder above it, is hidden or was left behind by an archiver."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _is_text(path: str) -> bool:
    """Whether the name is UTF-8; where it is not, the system hands over bytes as lone surrogates."""
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
    """Return the supported layouts of a folder, for an error message."""
    known = ", ".join(f"{adapter.NAME} ({adapter.LAYOUT})" for adapter in _ADAPTERS)
    return f"Known: {known}; or list the recordings in a {manifest.FILE_NAME} in their folder ({manifest.HEADER})"
