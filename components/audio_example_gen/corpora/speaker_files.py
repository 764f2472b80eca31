"""Recordings of one speaker in a folder, and the rows about the speaker in its tables."""

import collections
import dataclasses
import posixpath
from collections.abc import Mapping

from components.audio_example_gen.corpora import Rejected, crema_d, find, is_hidden, manifest, tables
from components.audio_example_gen.corpora.adapter import Tree, has_name
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
    listed = {row.path for row in manifest.rows(tree) if isinstance(row, manifest.Row) and row.speaker == speaker}
    lines = manifest.lines_by_manifest(tree, lambda row: row.speaker == speaker)
    recordings = {finding.path for finding in findings if not isinstance(finding, Rejected)}
    recordings &= {finding.path for finding in findings if getattr(finding, "speaker", None) == speaker}
    recordings |= listed & tree.paths
    unknown = {finding.path for finding in findings if isinstance(finding, Rejected)} - recordings
    cut = {path: _without_rows(tree.text(path), numbers) for path, numbers in lines.items()}
    cut |= _demographics(speaker, tree)
    return SpeakerFiles(
        recordings=tuple(posixpath.join(root, path) for path in sorted(recordings)),
        tables={posixpath.join(root, path): text for path, text in sorted(cut.items())},
        unknown=tuple(
            posixpath.join(root, path) for path in sorted(unknown & tree.paths) if formats.is_recording(path)
        ),
    )


def _demographics(speaker: str, tree: Tree) -> dict[str, str]:
    """Return CREMA-D's tables of age, sex and ethnicity that have a row of the speaker, without that row."""
    actor = speaker.removeprefix(f"{crema_d.NAME}-")
    cut = {}
    for path in (path for path in tree.paths if has_name(path, crema_d.DEMOGRAPHICS_FILE)):
        rows = tables.records(tree.text(path))
        lines = {line for line, row in rows if actor != speaker and (row.get("ActorID") or "").strip() == actor}
        if lines:
            cut[path] = _without_rows(tree.text(path), lines)
    return cut


def _without_rows(table: str, numbers: set[int]) -> str:
    return tables.select(table, lambda line: line not in numbers)
