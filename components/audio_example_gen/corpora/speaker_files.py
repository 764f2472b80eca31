"""Recordings of one speaker in a folder, and the rows about the speaker in its tables."""

import collections
import csv
import dataclasses
import io
import posixpath
from collections.abc import Mapping

from components.audio_example_gen.corpora import Rejected, crema_d, find, is_hidden, manifest
from components.audio_example_gen.corpora.adapter import Tree
from components.audio_example_gen.corpora.arrive import SPAN
from modules.audio import formats
from modules.common import addresses
from modules.data.labels import LabelSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeakerFiles:
    """What a folder has of one speaker.

    Attributes:
        recordings: Addresses of the recordings, those included that a run would pass over.
        tables: Text of each table without the speaker's rows, by address.
        unknown: Addresses of sound files whose speaker is not known, so that a person must check them.
    """

    recordings: tuple[str, ...]
    tables: Mapping[str, str]
    unknown: tuple[str, ...]


def speaker_files(speaker: str, data: str) -> SpeakerFiles:
    """Find the files of one speaker, span by span.

    Args:
        speaker: Id of the speaker, such as ``crema-d-1001``.
        data: Folder of recordings, local or in a bucket.

    Raises:
        OSError: The folder cannot be read.
    """
    parts: dict[str, list[str]] = collections.defaultdict(list)
    for path in addresses.files(data):
        first, _, rest = path.partition("/")
        span = first if SPAN.fullmatch(first) else ""
        if not is_hidden(path):
            parts[span].append(rest if span else path)
    found = [_files_in(speaker, posixpath.join(data, span).rstrip("/"), paths) for span, paths in sorted(parts.items())]
    return SpeakerFiles(
        recordings=tuple(path for part in found for path in part.recordings),
        tables={path: text for part in found for path, text in part.tables.items()},
        unknown=tuple(path for part in found for path in part.unknown),
    )


def _files_in(speaker: str, root: str, paths: list[str]) -> SpeakerFiles:
    def read_text(path: str) -> str:
        return addresses.read_bytes(posixpath.join(root, path)).decode()

    tree = Tree(paths, read_text=read_text)
    findings = find(tree, LabelSettings())
    listed, lines = manifest.rows_of(speaker, tree)
    recordings = {finding.path for finding in findings if not isinstance(finding, Rejected)}
    recordings &= {finding.path for finding in findings if getattr(finding, "speaker", None) == speaker}
    recordings |= listed & tree.paths
    unknown = {finding.path for finding in findings if isinstance(finding, Rejected)} - recordings
    tables = {path: _without_lines(tree.text(path), numbers) for path, numbers in lines.items()}
    tables |= _demographics(speaker, tree)
    return SpeakerFiles(
        recordings=tuple(posixpath.join(root, path) for path in sorted(recordings)),
        tables={posixpath.join(root, path): text for path, text in sorted(tables.items())},
        unknown=tuple(
            posixpath.join(root, path) for path in sorted(unknown & tree.paths) if formats.is_recording(path)
        ),
    )


def _demographics(speaker: str, tree: Tree) -> dict[str, str]:
    """Return CREMA-D's tables of age, sex and ethnicity that have a row of the speaker, without that row."""
    actor = speaker.removeprefix(f"{crema_d.NAME}-")
    tables = {}
    for path in (path for path in tree.paths if posixpath.basename(path) == crema_d.DEMOGRAPHICS_FILE):
        reader = csv.DictReader(io.StringIO(tree.text(path)))
        lines = {reader.line_num for row in reader if actor != speaker and (row.get("ActorID") or "").strip() == actor}
        if lines:
            tables[path] = _without_lines(tree.text(path), lines)
    return tables


def _without_lines(text: str, numbers: set[int]) -> str:
    """Return a table in CSV without the rows that end at some lines; all other rows keep their bytes."""
    reader = csv.reader(io.StringIO(text))
    lines = list(io.StringIO(text))
    kept, start = [], 0
    for _ in reader:
        if reader.line_num not in numbers:
            kept += lines[start : reader.line_num]
        start = reader.line_num
    return "".join(kept)
