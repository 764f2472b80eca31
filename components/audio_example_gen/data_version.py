"""Version of the recordings that an ingestion read, and its comparison with a folder."""

import dataclasses
import json
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from components.audio_example_gen.corpora import identify
from components.audio_example_gen.file_names import CLIPS_FILE, SUMMARY_FILE
from modules.common import addresses
from modules.common.digest import file_digest
from modules.common.errors import SerError
from modules.data.clips import Clip
from modules.data.labels import LabelSettings

EXAMPLES_FOLDER = "artifacts/AudioExampleGen/examples"
"""Folder below a run's root that has a numbered folder of examples for each ingestion."""


class NoDataVersion(SerError, ValueError):
    """A folder has no examples of an ingestion, or they were made before hashes were recorded."""

    code = "data_version.missing"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataVersion:
    """Recordings that an ingestion read.

    Attributes:
        root: The ingested folder.
        labels: Settings of the labels.
        clips: Description of each recording by its path below ``root``.
        sha256: SHA-256 of each file that could be read, by the same path.
    """

    root: str
    labels: LabelSettings
    clips: Mapping[str, Clip]
    sha256: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Differences:
    """Differences of a folder from a version of the data, as sorted paths.

    Attributes:
        missing: Recordings that are not in the folder.
        changed: Recordings with another content.
        relabelled: Recordings with another label, speaker or sex.
        additional: Recordings that the version does not have.
    """

    missing: tuple[str, ...]
    changed: tuple[str, ...]
    relabelled: tuple[str, ...]
    additional: tuple[str, ...]

    def __bool__(self) -> bool:
        return any(dataclasses.astuple(self))


def newest_examples(root: str) -> str:
    """Return the folder of the newest examples of local runs.

    Args:
        root: Output folder of the runs.

    Raises:
        NoDataVersion: There are none.
    """
    folder = posixpath.join(root, EXAMPLES_FOLDER)
    numbers = {path.partition("/")[0] for path in addresses.files(folder) if path.endswith(f"/{CLIPS_FILE}")}
    if not numbers:
        raise NoDataVersion(
            f"{folder} has no examples; run the pipeline first, name its --root, or name the examples with --examples"
        )
    return posixpath.join(folder, max(numbers, key=int))


def read(examples: str) -> DataVersion:
    """Return the version of the recordings that examples were made from.

    Args:
        examples: Folder of the examples, local or in a bucket.

    Raises:
        NoDataVersion: The folder is not one of examples, or has no hashes.
        OSError: It cannot be read.
    """
    outcomes = read_outcomes(examples)
    sha256 = {line["path"]: line["sha256"] for line in outcomes if line.get("sha256")}
    if not sha256:
        raise NoDataVersion(f"{examples}/{CLIPS_FILE} has no hashes of files; run the pipeline again to record them")
    summary = json.loads(addresses.read_bytes(posixpath.join(examples, SUMMARY_FILE)))
    return DataVersion(
        root=summary["root"],
        labels=LabelSettings.model_validate(summary["labels"]),
        clips={line["path"]: _clip(line) for line in outcomes},
        sha256=sha256,
    )


def read_outcomes(examples: str) -> list[dict[str, Any]]:
    """Return the outcome of each recording as plain values.

    Args:
        examples: Folder of the examples, local or in a bucket.

    Raises:
        NoDataVersion: The folder is not one of examples.
        OSError: It cannot be read.
    """
    try:
        text = addresses.read_bytes(posixpath.join(examples, CLIPS_FILE)).decode()
    except FileNotFoundError as error:
        raise NoDataVersion(
            f"{examples} has no {CLIPS_FILE}; name a folder such as output/{EXAMPLES_FOLDER}/1"
        ) from error
    return [json.loads(line) for line in text.splitlines()]


def compare(
    version: DataVersion, data: str, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Differences:
    """Compare a folder of recordings with a version of the data.

    Args:
        version: The version.
        data: Folder, local or in a bucket.
        progress: Called with the number of read files and the total.

    Raises:
        OSError: The folder cannot be read.
    """
    paths = set(addresses.files(data))
    found = {clip.path: clip for clip in identify(paths, read_text=_reader(data), labels=version.labels).clips}
    there = [path for path in sorted(version.sha256) if path in paths]
    changed = []
    for done, path in enumerate(there, start=1):
        if file_digest(posixpath.join(data, path)).sha256 != version.sha256[path]:
            changed.append(path)
        progress(done, len(there))
    return Differences(
        missing=tuple(sorted(version.clips.keys() - paths)),
        changed=tuple(changed),
        relabelled=tuple(path for path in sorted(found) if version.clips.get(path, found[path]) != found[path]),
        additional=tuple(sorted(found.keys() - version.clips.keys())),
    )


def _clip(line: Mapping[str, Any]) -> Clip:
    return Clip(**{field.name: line[field.name] for field in dataclasses.fields(Clip)})


def _reader(data: str) -> Callable[[str], str]:
    return lambda path: addresses.read_bytes(posixpath.join(data, path)).decode()
