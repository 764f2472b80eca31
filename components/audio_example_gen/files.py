"""The ingested folder on any file system: local or in a bucket."""

import posixpath
from collections.abc import Sequence

from tfx.dsl.io import fileio

from components.audio_example_gen.corpora import AUDIO_SUFFIXES, Rejected, is_hidden
from modules.common.addresses import read_bytes


class Folder:
    """Files that match the patterns of TFX's driver, so that a change of any ingested file is noticed."""

    def __init__(self, input_base: str, patterns: Sequence[str]) -> None:
        """Create the folder from the patterns with the span filled in.

        Args:
            input_base: Folder of the corpora, from the component.
            patterns: One for each level of folders, as ``span-2/*``, ``span-2/*/*``.
        """
        self._patterns = [posixpath.join(input_base, pattern) for pattern in patterns]
        self.root = self._patterns[0].removesuffix("/*")

    def paths(self) -> list[str]:
        """Files relative to the root, sorted; and folders whose name is that of a sound file, to be complained of."""
        found = {path for pattern in self._patterns for path in self._glob(pattern)}
        folders = {posixpath.dirname(path) for path in found}
        return sorted(path for path in found if path not in folders or _looks_like_sound(path))

    def too_deep(self) -> list[Rejected]:
        """Return the files below the deepest level."""
        below = [path for path in self._glob(self._patterns[-1] + "/*") if not is_hidden(path)]
        reason = f"lies deeper than the {len(self._patterns)} levels of folders that are read; see ingest.pattern"
        return [
            Rejected(path, reason)
            for path in sorted(below)
            if _looks_like_sound(path) or fileio.isdir(posixpath.join(self.root, path))
        ]

    def read_text(self, path: str) -> str:
        """Return the text of the file at ``path``, relative to the root."""
        return read_bytes(posixpath.join(self.root, path)).decode()

    def _glob(self, pattern: str) -> list[str]:
        return [posixpath.relpath(str(path), self.root) for path in fileio.glob(pattern)]


def _looks_like_sound(path: str) -> bool:
    return path.lower().endswith(AUDIO_SUFFIXES)
