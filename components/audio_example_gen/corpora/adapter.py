"""Input and results of a corpus adapter."""

import dataclasses
import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from pydantic import Field

from modules.common.settings import Settings
from modules.data.clips import Clip

AUDIO_SUFFIXES = (".wav", ".flac")


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A file that cannot be used, and why."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A sound file with a label outside the seven emotions, which is counted and not quarantined."""

    path: str
    label: str


class LabelSettings(Settings):
    """How labels outside the seven emotions are treated."""

    calm_as: Literal["neutral", "drop"] = Field(
        "neutral", description="Label that RAVDESS's `calm` becomes; `drop` leaves those clips out."
    )


Finding = Clip | Rejected | Dropped


class Tree:
    """The ingested folder, for adapters that need more than the path of a clip."""

    def __init__(self, paths: Iterable[str], *, read_text: Callable[[str], str], labels: LabelSettings) -> None:
        """Create the tree from the listing of a folder.

        Args:
            paths: All files below the root, relative, with ``/`` between the parts.
            read_text: Reads a small side file; raises ``OSError`` or ``UnicodeError`` where it cannot.
            labels: How labels outside the seven emotions are treated.
        """
        self.paths = frozenset(paths)
        self.labels = labels
        self.unreadable: dict[str, str] = {}
        self._read_text = read_text
        self._texts: dict[str, str] = {}

    def nearest(self, name: str, *, path: str) -> str | None:
        """Path of the file called ``name`` in the folder of ``path``, or in the closest folder above it."""
        while path:
            path = posixpath.dirname(path)
            if (candidate := posixpath.join(path, name)) in self.paths:
                return candidate
        return None

    def text(self, path: str) -> str:
        """Text of a side file, read once; empty, and noted in ``unreadable``, where it cannot be read."""
        if path not in self._texts:
            try:
                self._texts[path] = self._read_text(path).removeprefix("\ufeff")  # Excel writes one
            except (OSError, UnicodeError) as error:
                self.unreadable[path] = f"cannot be read: {error}"
                self._texts[path] = ""
        return self._texts[path]


def stem_of(path: str) -> str:
    """Return the name of the file without its folder and extension."""
    return posixpath.splitext(posixpath.basename(path))[0]


def pick(field: str, seen: str, allowed: Mapping[str, str]) -> str:
    """Translate a code of a corpus.

    Args:
        field: Name of the field, for the error.
        seen: Code in the name of the file.
        allowed: Translation of each code of the corpus.

    Raises:
        ValueError: ``seen`` is not a code of this corpus; the message lists the codes.
    """
    if seen not in allowed:
        raise ValueError(f"{field} is {seen!r}; known: {', '.join(allowed)}")
    return allowed[seen]
