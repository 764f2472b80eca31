"""Listing of the ingested folder on any file system, local or in a bucket."""

import functools
import glob
import posixpath
import re
from collections.abc import Sequence

import tensorflow as tf
from tfx.dsl.io import fileio

from components.audio_example_gen.corpora import Rejected, is_hidden
from modules.audio import formats
from modules.common import addresses
from modules.common.files import fault_of


def matching(pattern: str) -> list[str]:
    """Return the addresses of all entries that match, hidden ones and broken links among them.

    Args:
        pattern: Address in which ``*`` stands for any part of a name; all else is literal, brackets too.
    """
    escaped = literal(pattern)
    return tf.io.gfile.glob(escaped) if addresses.in_bucket(pattern) else glob.glob(escaped, include_hidden=True)


def literal(pattern: str) -> str:
    """Return a pattern whose only wildcard is ``*``.

    Args:
        pattern: Address in which ``?`` and brackets are parts of names.
    """
    return re.sub(r"[?\[]", r"[\g<0>]", pattern)


def _depth(path: str) -> int:
    return path.count("/") + 1


class Folder:
    """Files that match the driver's patterns, so that each ingested file is part of the fingerprint.

    Attributes:
        root: Folder that paths are relative to.
    """

    def __init__(self, input_base: str, patterns: Sequence[str]) -> None:
        """Store the patterns.

        Args:
            input_base: Folder of the component.
            patterns: Pattern of each level of folders with the span's number, as ``span-2/*``, ``span-2/*/*``.
        """
        self._patterns = [posixpath.join(input_base, pattern) for pattern in patterns]
        self.root = self._patterns[0].removesuffix("/*")

    def paths(self) -> list[str]:
        """Return the paths of all files, relative to the root, sorted."""
        return [path for path, fault in self._entries if not fault]

    def unread(self) -> list[Rejected]:
        """Return recordings that are not files, such as broken links, and what is below the deepest level."""
        named = [Rejected(path, fault) for path, fault in self._entries if fault and formats.is_recording(path)]
        return [*(file for file in named if not is_hidden(file.path)), *self._too_deep()]

    @functools.cached_property
    def _entries(self) -> list[tuple[str, str]]:
        """Return the path of each entry, sorted, and why it is not read; empty for a file."""
        if not addresses.in_bucket(self.root):
            return [entry for entry in self._walked if _depth(entry[0]) <= len(self._patterns)]
        matches = {path for pattern in self._patterns for path in self._matching(pattern)}
        folders = {posixpath.dirname(path) for path in matches}
        return [(path, "a folder, not a sound file" if path in folders else "") for path in sorted(matches)]

    @functools.cached_property
    def _walked(self) -> list[tuple[str, str]]:
        """Return each entry of a local folder, at any depth; links are followed, into each folder once."""
        paths = sorted(posixpath.relpath(file, self.root) for file in addresses.walk(self.root))
        return [(path, fault_of(posixpath.join(self.root, path))) for path in paths]

    def _too_deep(self) -> list[Rejected]:
        """Return sound files and folders below the deepest level, sorted by path."""
        level = len(self._patterns) + 1
        if addresses.in_bucket(self.root):
            found = self._matching(self._patterns[-1] + "/*")
        else:
            found = [path for path, _ in self._walked if _depth(path) == level]
        below = [path for path in found if not is_hidden(path)]
        reason = f"is below the {len(self._patterns)} levels of folders that are read; see ingest.pattern"
        return [
            Rejected(path, reason)
            for path in sorted(below)
            if formats.is_recording(path) or fileio.isdir(posixpath.join(self.root, path))
        ]

    def read_text(self, path: str) -> str:
        """Return the text of a file in UTF-8.

        Args:
            path: Path relative to the root.

        Raises:
            OSError: The file cannot be read.
            UnicodeError: It is not UTF-8.
        """
        return addresses.read_bytes(posixpath.join(self.root, path)).decode()

    def _matching(self, pattern: str) -> list[str]:
        return [posixpath.relpath(path, self.root) for path in matching(pattern)]
