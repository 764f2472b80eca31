"""Adapter of other corpora: a ``manifest.csv`` with the columns ``path,emotion,speaker[,sex,intensity]``.

Paths are relative to the manifest. Listed files are identified by the manifest alone, not by their names.
"""

import collections
import csv
import dataclasses
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator

from components.audio_example_gen.corpora import tables
from components.audio_example_gen.corpora.adapter import Finding, Rejected, Tree, has_name, translate_code
from modules.audio import formats
from modules.data.clips import Clip
from modules.data.labels import INTENSITIES, SEXES, LabelSettings

FILE_NAME = "manifest.csv"
HEADER = "path,emotion,speaker[,sex,intensity]"
ROOT_CORPUS = "own"

_REQUIRED = ("path", "emotion", "speaker")
_COLUMNS = (*_REQUIRED, "sex", "intensity")
_SEXES = {name: name for name in SEXES} | {"": "unknown"}
_INTENSITIES = {name: name for name in INTENSITIES} | {"": "unspecified"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a manifest.

    Attributes:
        manifest: Path of the manifest.
        corpus: Name of the corpus.
        line: Number of its last line.
        path: Path of its recording.
        cells: Its cells by column.
    """

    manifest: str
    corpus: str
    line: int
    path: str
    cells: dict[str, str]

    @property
    def speaker(self) -> str:
        """Id of the speaker."""
        return f"{self.corpus}-{self.cells['speaker']}"

    @property
    def where(self) -> str:
        """Place of the row, for messages."""
        return f"{self.manifest} line {self.line}"


def read_all(tree: Tree, labels: LabelSettings) -> tuple[dict[str, Finding], list[Rejected]]:
    """Read every manifest of the tree.

    If two rows list a file, the manifest in the deeper folder takes precedence, and in a manifest the first row.

    Args:
        tree: The ingested folder.
        labels: Labels that a row may have.

    Returns:
        The finding for each listed file by its path, and the problems of the manifests.
    """
    findings: dict[str, Finding] = {}
    listed_at: dict[str, str] = {}
    problems: list[Rejected] = []
    for row in rows(tree):
        if isinstance(row, Rejected):
            problems.append(row)
        elif row.path in findings:
            reason = f"line {row.line}: {row.path} is already listed in {listed_at[row.path]}"
            problems.append(Rejected(row.manifest, reason))
        else:
            findings[row.path] = _describe(row, tree, labels)
            listed_at[row.path] = row.where
    return findings, problems


def rows(tree: Tree) -> Iterator[Row | Rejected]:
    """Yield every row of the manifests, those in deeper folders first, and the problems of the manifests.

    Args:
        tree: The ingested folder.
    """
    manifests = [path for path in tree.paths if has_name(path, FILE_NAME)]
    manifests.sort(key=lambda path: (-path.count("/"), path))
    by_normal_form = {unicodedata.normalize("NFC", path): path for path in sorted(tree.paths)}
    for manifest, corpus in _corpus_names(manifests).items():
        yield from _rows(manifest, corpus, tree, by_normal_form)


def lines_by_manifest(tree: Tree, wanted: Callable[[Row], bool]) -> dict[str, set[int]]:
    """Return the last line of each wanted row by the path of its manifest, whether or not its recording is usable.

    Args:
        tree: The ingested folder.
        wanted: Whether a row is wanted.
    """
    lines: dict[str, set[int]] = collections.defaultdict(set)
    for row in rows(tree):
        if isinstance(row, Row) and wanted(row):
            lines[row.manifest].add(row.line)
    return lines


def _corpus_names(manifests: list[str]) -> dict[str, str]:
    """Return the name of the folder for each manifest; the path of the folder if two folders share a name."""
    folders = {manifest: posixpath.dirname(manifest) for manifest in manifests}
    short = {manifest: _slug(posixpath.basename(folder)) for manifest, folder in folders.items()}
    counts = collections.Counter(short.values())
    return {manifest: name if counts[name] == 1 else _slug(folders[manifest]) for manifest, name in short.items()}


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-") or ROOT_CORPUS


def _rows(manifest: str, corpus: str, tree: Tree, by_normal_form: dict[str, str]) -> Iterator[Row | Rejected]:
    reader = tables.reader(tree.text(manifest))
    if manifest in tree.unreadable:
        return
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if fault := _fault_of(header):
            yield Rejected(manifest, f"line {reader.line_num or 1}: {fault}; it must be {HEADER}")
            return
        for row in reader:
            cells = [cell.strip() for cell in row]
            if len(cells) == len(header) and any(cells):
                values = dict(zip(header, cells, strict=True))
                path = _resolve(values["path"], manifest, by_normal_form)
                yield Row(manifest=manifest, corpus=corpus, line=reader.line_num, path=path, cells=values)
            elif any(cells):
                reason = f"{len(cells)} cells, the header has {len(header)}; quote cells with commas"
                yield Rejected(manifest, f"line {reader.line_num}: {reason}")
    except csv.Error as error:
        yield Rejected(manifest, f"line {reader.line_num}: {error}")


def _fault_of(header: list[str]) -> str:
    if missing := [name for name in _REQUIRED if name not in header]:
        return f"no column {', '.join(missing)} among {header}"
    if twice := [name for name in _COLUMNS if header.count(name) > 1]:
        return f"more than one column {', '.join(twice)}"
    return ""


def _resolve(named: str, manifest: str, by_normal_form: dict[str, str]) -> str:
    """Return the path of a recording in the tree: in any Unicode form, and with the slashes of Windows."""
    written = _below(named, manifest)
    for path in (written, _below(named.replace("\\", "/"), manifest)):
        if found := by_normal_form.get(unicodedata.normalize("NFC", path)):
            return found
    return written


def _below(named: str, manifest: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(manifest), named))


def _describe(row: Row, tree: Tree, labels: LabelSettings) -> Finding:
    try:
        _require_usable(row, tree)
        emotion = translate_code("emotion", row.cells["emotion"].lower(), {name: name for name in labels.known})
        sex = translate_code("sex", row.cells.get("sex", "").lower(), _SEXES)
        intensity = translate_code("intensity", row.cells.get("intensity", "").lower(), _INTENSITIES)
    except ValueError as error:
        return Rejected(row.path, f"{row.where}: {error}")
    return Clip(
        path=row.path,
        corpus=row.corpus,
        emotion=emotion,
        speaker=row.speaker,
        sex=sex,
        intensity=intensity,
    )


def _require_usable(row: Row, tree: Tree) -> None:
    path = row.path
    if not row.cells["path"]:
        raise ValueError("path is empty")
    if posixpath.isabs(path) or path.startswith("../"):
        raise ValueError("path is outside of the ingested folder; it must be relative to the manifest")
    if path not in tree.paths:
        raise ValueError("no such file; paths are relative to the manifest")
    if not formats.is_readable(path):
        raise ValueError(f"its format is not read; {formats.advice(through_container=formats.is_sound(path))}")
    if not row.cells["speaker"]:
        raise ValueError("speaker is empty; splits keep speakers apart, so every clip needs one")
