"""Plan of a batch: its model, its recordings in shards, and the files of its results.

A shard is finished when the file of its results exists. It appears by an atomic rename, after the file of the errors.
"""

import dataclasses
import json
import posixpath
import re
from collections.abc import Sequence

from modules.common import addresses
from modules.common.bigquery_table import Table
from modules.common.digest import digest
from modules.common.errors import SerError
from modules.export import manifest

PLAN_FILE = "batch.json"
SHARDS_FILE = "shards.json"
RESULTS = "results"
ERRORS = "errors"

_VERSION = re.compile(r"(\d+)/saved_model\.pb")
_RESULT = re.compile(r"(\d+)\.\w+")


class NoVersion(SerError):
    """The folder of versions does not have the version, or has none."""

    code = "batch.no_version"


class OtherBatch(SerError):
    """The output folder holds the results of another model, other recordings or other options."""

    code = "batch.other_batch"


@dataclasses.dataclass(frozen=True)
class PushedModel:
    """A pushed version of a model.

    Attributes:
        path: Folder of the SavedModel.
        version: Number of the version.
    """

    path: str
    version: int

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, which differ between two exports."""
        return digest(addresses.read_bytes(posixpath.join(self.path, "fingerprint.pb")).hex())


def find_model(base_path: str, version: int | None = None, *, public_key: str | None = None) -> PushedModel:
    """Return a version below a folder of versions, whose files are those of its manifest.

    Args:
        base_path: Folder, local or ``gs://``.
        version: Number of the version; the newest by default.
        public_key: Address of the public key that must have signed the manifest.

    Raises:
        NoVersion: There is no such version.
        modules.export.manifest.ManifestError: A file was changed, or the key did not sign the manifest.
        OSError: The folder cannot be read.
    """
    versions = sorted(int(match[1]) for match in map(_VERSION.fullmatch, addresses.files(base_path)) if match)
    if not versions or version not in (None, *versions):
        asked = "a version" if version is None else f"version {version}"
        raise NoVersion(
            f"{base_path} does not have {asked} of a model; it has {versions or 'none'}. Name one of them with "
            "--version, or the folder that a run pushed to"
        )
    number = version or versions[-1]
    model = PushedModel(addresses.absolute(posixpath.join(base_path, str(number))), number)
    manifest.require_intact(model.path, public_key=public_key)
    return model


Shards = list[list[str]]
"""Addresses of the recordings of each file of results."""


@dataclasses.dataclass(frozen=True)
class Output:
    """Folder of results.

    Attributes:
        folder: Address of the folder, local or ``gs://``.
        form: Suffix of the files of results, without a dot.
        table: Table that the files, JSON lines, are loaded into.
    """

    folder: str
    form: str
    table: Table | None = None

    @property
    def is_new(self) -> bool:
        """Whether no batch was started in the folder."""
        try:
            addresses.read_bytes(self._below(PLAN_FILE), max_bytes=1)
        except FileNotFoundError:
            return True
        return False

    def results_file(self, number: int) -> str:
        """Return the address of a shard's results."""
        return posixpath.join(self.folder, RESULTS, f"{number:06d}.{self.form}")

    def errors_file(self, number: int) -> str:
        """Return the address of a shard's errors, JSON lines; it exists if there are any."""
        return posixpath.join(self.folder, ERRORS, f"{number:06d}.jsonl")

    def read_shards(self) -> Shards:
        """Return the shards that :func:`make_plan` wrote: Dataflow's job graph has no room for all addresses."""
        return json.loads(addresses.read_bytes(self._below(SHARDS_FILE)))

    def is_finished(self, number: int) -> bool:
        """Return whether a shard is finished."""
        try:
            addresses.read_bytes(self.results_file(number), max_bytes=1)
        except FileNotFoundError:
            return False
        return True

    def finished(self) -> set[int]:
        """Return the numbers of the finished shards."""
        names = addresses.files(self._below(RESULTS)) if self._has(RESULTS) else []
        return {int(match[1]) for match in map(_RESULT.fullmatch, names) if match}

    def failed_recordings(self) -> int:
        """Return the number of recordings with an error in the finished shards."""
        if not self._has(ERRORS):
            return 0
        files = {self.errors_file(number) for number in self.finished()}
        there = {posixpath.join(self.folder, ERRORS, name) for name in addresses.files(self._below(ERRORS))}
        return sum(addresses.read_bytes(file).count(b"\n") for file in files & there)

    def _has(self, name: str) -> bool:
        return addresses.is_folder(self._below(name))

    def _below(self, name: str) -> str:
        return posixpath.join(self.folder, name)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A batch.

    Attributes:
        model: The model that answers.
        output: Where results are written.
        shards: All recordings, in shards.
    """

    model: PushedModel
    output: Output
    shards: Shards

    @property
    def recordings(self) -> int:
        """Number of all recordings."""
        return sum(map(len, self.shards))

    def finished_recordings(self) -> int:
        """Return the number of recordings in finished shards."""
        return sum(len(self.shards[number]) for number in self.output.finished())


def make_plan(model: PushedModel, recordings: Sequence[str], *, output: Output, recordings_per_file: int) -> Plan:
    """Return the plan, and write it into the output folder; a folder that has the same plan is continued.

    Args:
        model: The model that answers.
        recordings: Addresses of the recordings, sorted.
        output: Where results are written.
        recordings_per_file: Recordings of a shard.

    Raises:
        OtherBatch: The folder has another plan.
        OSError: The folder cannot be read or written.
    """
    starts = range(0, len(recordings), recordings_per_file)
    shards = [list(recordings[start : start + recordings_per_file]) for start in starts]
    facts = {
        "model_version": model.version,
        "model_fingerprint": model.fingerprint,
        "format": output.form,
        "recordings_per_file": recordings_per_file,
        "recordings": len(recordings),
        "recordings_digest": digest(list(recordings)),
    }
    _require_same(facts, posixpath.join(output.folder, PLAN_FILE))
    addresses.write_bytes(posixpath.join(output.folder, SHARDS_FILE), json.dumps(shards).encode())
    return Plan(model, output, shards)


def _require_same(facts: dict[str, object], file: str) -> None:
    """Require the facts of an earlier start, or write them."""
    try:
        earlier = json.loads(addresses.read_bytes(file))
    except FileNotFoundError:
        addresses.write_bytes(file, f"{json.dumps(facts, indent=2)}\n".encode())
        return
    differences = [f"{name} was {earlier.get(name)} and is {value}" for name, value in facts.items()]
    different = [text for text, name in zip(differences, facts, strict=True) if earlier.get(name) != facts[name]]
    if different:
        raise OtherBatch(
            f"{posixpath.dirname(file)} holds the results of another batch: {'; '.join(different)}. Name another "
            "place with --out, or run again with the recordings and options that it was started with"
        )
