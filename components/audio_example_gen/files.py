"""Listing of the ingested folder on any file system, local or in a bucket."""

import posixpath
from collections.abc import Sequence

from tfx.dsl.io import fileio

from components.audio_example_gen.corpora import Rejected, is_hidden
from modules.audio import formats
from modules.common.addresses import read_bytes


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
        """Return files relative to the root, sorted, and folders named like a sound file, which are rejected later."""
        matches = {path for pattern in self._patterns for path in self._glob(pattern)}
        folders = {posixpath.dirname(path) for path in matches}
        return sorted(path for path in matches if path not in folders or formats.is_recording(path))

    def too_deep(self) -> list[Rejected]:
        """Return sound files and folders below the deepest level, sorted by path."""
        below = [path for path in self._glob(self._patterns[-1] + "/*") if not is_hidden(path)]
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
        return read_bytes(posixpath.join(self.root, path)).decode()

    def _glob(self, pattern: str) -> list[str]:
        return [posixpath.relpath(str(path), self.root) for path in fileio.glob(pattern)]
