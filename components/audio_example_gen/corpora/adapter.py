"""Arguments and results of the corpus adapters."""

import dataclasses
import posixpath
from collections.abc import Callable, Iterable, Mapping

from modules.common.errors import SerError
from modules.data.clips import Clip

OTHER_ENCODING = "another encoding of a recording that is there"


class UnknownCode(SerError, ValueError):
    """A code in the name of a file or in a manifest is not one of its corpus."""

    code = "corpus.unknown_code"


@dataclasses.dataclass(frozen=True)
class Rejected:
    """An unusable file and the reason."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A sound file that is passed over; it is counted, not quarantined.

    Attributes:
        path: Path of the file.
        label: Its corpus and label, which is not an emotion of the model, or :data:`OTHER_ENCODING`.
        speaker: Its speaker.
    """

    path: str
    label: str
    speaker: str


Finding = Clip | Rejected | Dropped


class Tree:
    """The ingested folder, for adapters that need files other than the recording.

    Attributes:
        paths: All files below the root.
        unreadable: Side files that could not be read, with reasons.
    """

    def __init__(self, paths: Iterable[str], *, read_text: Callable[[str], str]) -> None:
        """Store the listing of a folder.

        Args:
            paths: All files below the root, relative, with ``/`` between the parts.
            read_text: Function that reads a small side file; it may raise ``OSError`` or ``UnicodeError``.
        """
        self.paths = frozenset(paths)
        self._by_name = {_folder_and_name(path): path for path in sorted(self.paths, reverse=True)}
        self.unreadable: dict[str, str] = {}
        self._read_text = read_text
        self._texts: dict[str, str] = {}

    def nearest(self, name: str, *, path: str) -> str | None:
        """Return the path of a file in the folder of ``path`` or in the closest folder above it; None without one.

        Args:
            name: Name of the file, of which capitals do not matter.
            path: Path to start from.
        """
        while path:
            path = posixpath.dirname(path)
            if candidate := self._by_name.get((path, name.lower())):
                return candidate
        return None

    def text(self, path: str) -> str:
        """Return the text of a side file; if it cannot be read, an empty text, with the reason in ``unreadable``.

        Args:
            path: Path of the file, which is read once.
        """
        if path not in self._texts:
            try:
                self._texts[path] = self._read_text(path).removeprefix("\ufeff")  # Excel writes one
            except (OSError, UnicodeError) as error:
                not_text = "it is not text in UTF-8; save it again, as CSV in UTF-8"
                self.unreadable[path] = f"cannot be read: {not_text if isinstance(error, UnicodeError) else error}"
                self._texts[path] = ""
        return self._texts[path]


def has_name(path: str, *names: str) -> bool:
    """Return whether a side file has one of some names, of which capitals do not matter.

    Args:
        path: Path with ``/`` between the parts.
        names: The names.
    """
    return _folder_and_name(path)[1] in [name.lower() for name in names]


def _folder_and_name(path: str) -> tuple[str, str]:
    folder, name = posixpath.split(path)
    return folder, name.lower()


def stem_of(path: str) -> str:
    """Return the name of a file without its suffix.

    Args:
        path: Path with ``/`` between the parts.
    """
    return posixpath.splitext(posixpath.basename(path))[0]


def translate_code(field: str, code: str, meanings: Mapping[str, str]) -> str:
    """Return the meaning of a corpus's code.

    Args:
        field: Name of the field, for the message.
        code: The code.
        meanings: Meaning of each code.

    Raises:
        UnknownCode: ``code`` is not among them.
    """
    if code not in meanings:
        raise UnknownCode(f"{field} is {code!r}; known: {', '.join(name or 'an empty cell' for name in meanings)}")
    return meanings[code]
