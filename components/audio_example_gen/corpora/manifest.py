"""Adapter of other corpora: a ``manifest.csv`` with the columns ``path,emotion,speaker[,sex,intensity]``.

Paths are relative to the manifest. Listed files are identified by the manifest alone, not by their names.
"""

import collections
import csv
import dataclasses
import io
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.audio_example_gen.corpora.adapter import Finding, Rejected, Tree, translate_code
from modules.audio import formats
from modules.data.clips import Clip
from modules.data.labels import INTENSITIES, SEXES, LabelSettings

if TYPE_CHECKING:
    import _csv

FILE_NAME = "manifest.csv"
HEADER = "path,emotion,speaker[,sex,intensity]"
ROOT_CORPUS = "own"

_REQUIRED = ("path", "emotion", "speaker")
_SEXES = {name: name for name in SEXES} | {"": "unknown"}
_INTENSITIES = {name: name for name in INTENSITIES} | {"": "unspecified"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    manifest: str
    corpus: str
    line: int
    cells: dict[str, str]

    @property
    def speaker(self) -> str:
        return f"{self.corpus}-{self.cells['speaker']}"

    @property
    def where(self) -> str:
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
    manifests = [path for path in tree.paths if posixpath.basename(path) == FILE_NAME]
    manifests.sort(key=lambda path: (-path.count("/"), path))
    corpora = _corpus_names(manifests)
    by_normal_form = {unicodedata.normalize("NFC", path): path for path in sorted(tree.paths)}
    findings: dict[str, Finding] = {}
    listed_at: dict[str, str] = {}
    problems: list[Rejected] = []
    for manifest in manifests:
        for row in _rows(manifest, corpora[manifest], tree):
            if isinstance(row, Rejected):
                problems.append(row)
                continue
            named = _resolve(row)
            path = by_normal_form.get(unicodedata.normalize("NFC", named), named)
            if path in findings:
                problems.append(Rejected(manifest, f"line {row.line}: {path} is already listed in {listed_at[path]}"))
                continue
            findings[path] = _describe(row, path, tree, labels)
            listed_at[path] = row.where
    return findings, problems


def rows_of(speaker: str, tree: Tree) -> tuple[set[str], dict[str, set[int]]]:
    """Return what the manifests list of one speaker, whether or not the files are there and usable.

    Args:
        speaker: Id of the speaker.
        tree: The ingested folder.

    Returns:
        The listed paths, and the last line of each row by the path of its manifest.
    """
    paths: set[str] = set()
    lines: dict[str, set[int]] = {}
    manifests = [path for path in tree.paths if posixpath.basename(path) == FILE_NAME]
    for manifest, corpus in _corpus_names(sorted(manifests)).items():
        for row in _rows(manifest, corpus, tree):
            if isinstance(row, _Row) and row.speaker == speaker:
                paths.add(_resolve(row))
                lines.setdefault(manifest, set()).add(row.line)
    return paths, lines


def _corpus_names(manifests: list[str]) -> dict[str, str]:
    """Return the name of the folder for each manifest; the path of the folder if two folders share a name."""
    folders = {manifest: posixpath.dirname(manifest) for manifest in manifests}
    short = {manifest: _slug(posixpath.basename(folder)) for manifest, folder in folders.items()}
    counts = collections.Counter(short.values())
    return {manifest: name if counts[name] == 1 else _slug(folders[manifest]) for manifest, name in short.items()}


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-") or ROOT_CORPUS


def _rows(manifest: str, corpus: str, tree: Tree) -> Iterator[_Row | Rejected]:
    reader = csv.reader(io.StringIO(tree.text(manifest)))
    if manifest in tree.unreadable:
        return
    try:
        yield from _parse(reader, manifest, corpus)
    except csv.Error as error:
        yield Rejected(manifest, f"line {reader.line_num}: {error}")


def _parse(reader: "_csv.Reader", manifest: str, corpus: str) -> Iterator[_Row | Rejected]:
    header = [name.strip().lower() for name in next(reader, [])]
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        yield Rejected(manifest, f"line 1: no column {', '.join(missing)} among {header}; it must be {HEADER}")
        return
    for cells in reader:
        if len(cells) == len(header):
            values = dict(zip(header, (cell.strip() for cell in cells), strict=True))
            yield _Row(manifest=manifest, corpus=corpus, line=reader.line_num, cells=values)
        elif cells:
            reason = f"{len(cells)} cells, the header has {len(header)}; quote cells with commas"
            yield Rejected(manifest, f"line {reader.line_num}: {reason}")


def _resolve(row: _Row) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(row.manifest), row.cells["path"]))


def _describe(row: _Row, path: str, tree: Tree, labels: LabelSettings) -> Finding:
    try:
        _require_usable(row, path, tree)
        emotion = translate_code("emotion", row.cells["emotion"].lower(), {name: name for name in labels.known})
        sex = translate_code("sex", row.cells.get("sex", "").lower(), _SEXES)
        intensity = translate_code("intensity", row.cells.get("intensity", "").lower(), _INTENSITIES)
    except ValueError as error:
        return Rejected(path, f"{row.where}: {error}")
    return Clip(
        path=path,
        corpus=row.corpus,
        emotion=emotion,
        speaker=row.speaker,
        sex=sex,
        intensity=intensity,
    )


def _require_usable(row: _Row, path: str, tree: Tree) -> None:
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
