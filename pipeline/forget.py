"""Deletion of what is kept of one speaker: recordings, examples, reports and logs. Trained models are named only.

Each step can be repeated. The files by which others are found, clips.jsonl and the rows of tables, are removed last, so
that a deletion that was interrupted finds the rest when it is repeated. A journal keeps the names of the models.
"""

import contextlib
import dataclasses
import datetime
import html
import json
import os
import posixpath
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2

from components.audio_example_gen.corpora.speaker_files import speaker_files
from components.audio_example_gen.data_version import read_outcomes
from components.audio_example_gen.file_names import CLIPS_FILE
from modules.common import addresses
from modules.common.errors import SerError
from modules.data.splits import TEST
from modules.export.contract import EXTRA_ASSETS, PROTOCOL_FILE
from modules.reporting.runs import RUNS_DIR
from modules.reporting.summary import Protocol, speaker_hash
from pipeline.run_lock import SERVING_DIR, exclusive

JOURNAL_FILE = "deletions.jsonl"

_METADATA_FILE = "metadata.sqlite"
_ARTIFACTS_DIR = "artifacts"
_CROSS_VALIDATION_DIR = "cross_validation"
_REQUEST_LOGS = "requests-*.tfrecord"
# Types of the artifacts that hold examples, or statistics, predictions and names of single speakers.
_PERSONAL = ("Examples", "ExampleStatistics", "ExampleAnomalies", "TransformCache", "ModelEvaluation")
_TEXT_SUFFIXES = (".csv", ".html", ".json", ".jsonl", ".log", ".md")
_INPUTS = (mlmd_pb2.Event.INPUT, mlmd_pb2.Event.DECLARED_INPUT)
_OUTPUTS = (mlmd_pb2.Event.OUTPUT, mlmd_pb2.Event.DECLARED_OUTPUT)


class UnknownSpeaker(SerError, ValueError):
    """Nothing is kept of the speaker in the given folders."""

    code = "forget.unknown_speaker"


class MovedRoot(SerError, ValueError):
    """ML Metadata names artifacts outside of the output folder, which are not removed."""

    code = "forget.moved_root"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model of a run that had the speaker's recordings.

    Attributes:
        address: Artifact of the Trainer.
        trained: Whether the recordings trained or calibrated it; otherwise they only evaluated it.
        versions: Names of its pushed versions.
    """

    address: str
    trained: bool
    versions: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a deletion removes.

    Attributes:
        speaker: Id of the speaker.
        recordings: Addresses of recordings.
        tables: Text of tables of recordings without the speaker's rows, by address.
        artifacts: Ids in ML Metadata of the artifacts to mark as deleted.
        derived: Files and folders of runs, in the order of their removal.
        logs: Files of request logs; they have no names, so all of them are removed.
        models: Models that had the recordings; they are kept.
        unknown: Sound files whose speaker is not known.
    """

    speaker: str
    recordings: tuple[str, ...]
    tables: Mapping[str, str]
    artifacts: tuple[int, ...]
    derived: tuple[Path, ...]
    logs: tuple[Path, ...]
    models: tuple[Model, ...]
    unknown: tuple[str, ...]

    @property
    def removes(self) -> int:
        """Number of files, folders and tables that change."""
        return len(self.recordings) + len(self.tables) + len(self.derived) + len(self.logs)


def plan(speaker: str, *, data: Sequence[str], root: Path, request_logs: Sequence[Path] = ()) -> Plan:
    """Find everything that is kept of a speaker; nothing is changed.

    Args:
        speaker: Id of the speaker, as ``ser corpus scan`` prints it.
        data: Folders of recordings, local or in buckets.
        root: Output folder of local runs.
        request_logs: Folders of request logs.

    Raises:
        UnknownSpeaker: Nothing was found, now or in an earlier deletion.
        MovedRoot: The runs of ``root`` wrote their artifacts to another folder.
        OSError: A folder cannot be read.
    """
    files = [speaker_files(speaker, folder) for folder in data]
    recordings = tuple(path for found in files for path in found.recordings)
    examples, artifacts, models = _read_metadata(root, speaker)
    _require_inside(root, artifacts)
    lines = [line for of_run in examples.values() for line in of_run]
    names = [speaker, *(line["path"] for line in lines), *(f"{line['corpus']}/{line['path']}" for line in lines)]
    names += [posixpath.relpath(path, folder) for folder in data for path in recordings if path.startswith(folder)]
    names += recordings
    # The examples last: their clips.jsonl is what the artifacts made of them are found by.
    of_runs = sorted((Path(artifact.uri) for artifact in artifacts), key=lambda path: str(path) in examples)
    found = Plan(
        speaker=speaker,
        recordings=recordings,
        tables={path: text for each in files for path, text in each.tables.items()},
        artifacts=tuple(artifact.id for artifact in artifacts),
        derived=(*_mentioning(root, names), *(path for path in of_runs if path.exists())),
        logs=tuple(file for folder in request_logs for file in sorted(folder.glob(_REQUEST_LOGS))),
        models=_with_journal(models, root, speaker),
        unknown=tuple(path for each in files for path in each.unknown),
    )
    if not found.recordings and not found.tables and not found.derived and not found.models:
        raise UnknownSpeaker(
            f"nothing is kept of {speaker!r} in {', '.join([*data, str(root)])}; `ser corpus scan` lists the speakers "
            "of a folder"
        )
    return found


def carry_out(speaker: str, *, data: Sequence[str], root: Path, request_logs: Sequence[Path] = ()) -> Plan:
    """Remove everything that is kept of a speaker, apart from the models, while no run uses ``root``.

    Args:
        speaker: See :func:`plan`.
        data: The same.
        root: The same.
        request_logs: The same.

    Returns:
        What was removed.

    Raises:
        UnknownSpeaker: Nothing was found.
        MovedRoot: The runs of ``root`` wrote their artifacts to another folder.
        RootInUse: A run uses ``root``.
        OSError: A file cannot be removed; repeat the deletion.
    """
    with exclusive(root):
        planned = plan(speaker, data=data, root=root, request_logs=request_logs)
        _note(planned, root, "started")
        _mark_deleted(root, planned.artifacts)
        for file in planned.logs:
            file.unlink(missing_ok=True)
        for path in planned.derived:
            _remove(path)
        for address in planned.recordings:
            addresses.remove(address)
        for address, text in planned.tables.items():
            addresses.write_bytes(address, text.encode())
        for folder in {posixpath.dirname(path) for path in planned.recordings if not addresses.in_bucket(path)}:
            with contextlib.suppress(OSError):  # it is not empty
                Path(folder).rmdir()
        _note(planned, root, "done")
    return planned


def _read_metadata(
    root: Path, speaker: str
) -> tuple[dict[str, list[dict[str, Any]]], list[mlmd_pb2.Artifact], list[Model]]:
    """Return lines of the speaker by folder of examples, personal artifacts that derive from these, and models."""
    if not (root / _METADATA_FILE).exists():
        return {}, [], []
    store = _store(root)
    lines_of = {artifact.uri: _lines(artifact.uri, speaker) for artifact in store.get_artifacts_by_type("Examples")}
    examples = {uri: lines for uri, lines in lines_of.items() if lines}
    artifacts: dict[int, mlmd_pb2.Artifact] = {}
    models = {model.address: model for model in _evaluated_models(store, root, speaker)}
    for source in store.get_artifacts_by_type("Examples"):
        if source.uri not in examples:
            continue
        derived = store.get_artifacts_by_id(sorted(_derived(store, source.id) | {source.id}))
        artifacts |= {artifact.id: artifact for artifact in derived if artifact.type in _PERSONAL}
        trained = any(line["split"] != TEST for line in examples[source.uri])
        for artifact in (artifact for artifact in derived if artifact.type == "Model"):
            models[artifact.uri] = Model(
                address=artifact.uri, trained=trained, versions=_versions_of(root, artifact.uri)
            )
    return examples, list(artifacts.values()), list(models.values())


def _evaluated_models(store: mlmd.MetadataStore, root: Path, speaker: str) -> Iterator[Model]:
    """Yield the models whose blessing names the speaker: it outlives the examples, which other deletions remove."""
    for blessing in store.get_artifacts_by_type("ModelBlessing"):
        file = Path(blessing.uri) / PROTOCOL_FILE
        speakers = Protocol.model_validate_json(file.read_bytes()) if file.exists() else None
        if speakers is None or not any(speaker_hash(speaker) in hashes for hashes in speakers.speakers.values()):
            continue
        trained = speaker_hash(speaker) in speakers.training_speakers
        for model in store.get_artifacts_by_id([blessing.custom_properties["current_model_id"].int_value]):
            yield Model(address=model.uri, trained=trained, versions=_versions_of(root, model.uri))


def _require_inside(root: Path, artifacts: Sequence[mlmd_pb2.Artifact]) -> None:
    outside = [artifact.uri for artifact in artifacts if not Path(artifact.uri).is_relative_to(root.resolve())]
    if outside:
        raise MovedRoot(
            f"{root / _METADATA_FILE} names artifacts outside of {root.resolve()}, such as {outside[0]}; give the "
            "--root that the runs were started with"
        )


def _lines(examples: str, speaker: str) -> list[dict[str, Any]]:
    if not addresses.in_bucket(examples) and not (Path(examples) / CLIPS_FILE).exists():
        return []  # copies by the Transform of an older run, or deleted ones
    return [line for line in read_outcomes(examples) if line["speaker"] == speaker]


def _derived(store: mlmd.MetadataStore, artifact_id: int) -> set[int]:
    """Return the ids of all artifacts that were made from an artifact, directly or through others."""
    found: set[int] = set()
    fresh = {artifact_id}
    while fresh:
        uses = store.get_events_by_artifact_ids(sorted(fresh))
        users = {event.execution_id for event in uses if event.type in _INPUTS}
        events = store.get_events_by_execution_ids(sorted(users)) if users else []
        fresh = {event.artifact_id for event in events if event.type in _OUTPUTS} - found
        found |= fresh
    return found


def _versions_of(root: Path, model: str) -> tuple[str, ...]:
    sources = sorted((root / SERVING_DIR).glob(f"*/{EXTRA_ASSETS}/source_model"))
    return tuple(path.parents[1].name for path in sources if path.read_text().startswith(f"{model}/"))


def _mentioning(root: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield the files of ``root`` in which a name occurs; in their place the folder of a kept run or of folds."""
    forms = {form for name in names for form in (name, html.escape(name), json.dumps(name)[1:-1])}
    pattern = re.compile("|".join(rf"(?<![\w/-]){re.escape(form)}(?![\w-])" for form in sorted(forms)))
    units: dict[Path, None] = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        kept = inside[0] == SERVING_DIR or path.name == JOURNAL_FILE
        of_failure = inside[0] == _ARTIFACTS_DIR and any(part.endswith("-failed") for part in inside)
        if kept or (inside[0] == _ARTIFACTS_DIR and not of_failure) or path.suffix not in _TEXT_SUFFIXES:
            continue
        if path.is_file() and pattern.search(path.read_text(encoding="utf-8", errors="replace")):
            depth = {RUNS_DIR: 2, _CROSS_VALIDATION_DIR: 1}.get(inside[0], len(inside))
            units[root.joinpath(*inside[:depth])] = None
    yield from units


def _mark_deleted(root: Path, ids: Sequence[int]) -> None:
    """Keep TFX's cache and resolvers from artifacts whose files are gone."""
    if ids:
        store = _store(root)
        artifacts = store.get_artifacts_by_id(list(ids))
        for artifact in artifacts:
            artifact.state = mlmd_pb2.Artifact.DELETED
        store.put_artifacts(artifacts)


def _store(root: Path) -> mlmd.MetadataStore:
    config = mlmd_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(root / _METADATA_FILE)
    config.sqlite.connection_mode = mlmd_pb2.SqliteMetadataSourceConfig.READWRITE
    return mlmd.MetadataStore(config)


def _remove(path: Path) -> None:
    if path.is_dir():
        last = path / CLIPS_FILE
        for child in sorted(path.iterdir(), key=lambda child: child == last):
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _note(planned: Plan, root: Path, state: str) -> None:
    """Append to the journal, in which the speaker is a hash."""
    record = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "state": state,
        "speaker_sha256": speaker_hash(planned.speaker),
        "recordings": len(planned.recordings),
        "models": [dataclasses.asdict(model) for model in planned.models],
    }
    with (root / JOURNAL_FILE).open("a") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _with_journal(models: Sequence[Model], root: Path, speaker: str) -> tuple[Model, ...]:
    """Add the models of an earlier deletion, whose examples are gone."""
    journal = root / JOURNAL_FILE
    lines = journal.read_text().splitlines() if journal.exists() else []
    records = [record for record in map(json.loads, lines) if record["speaker_sha256"] == speaker_hash(speaker)]
    named = [model for record in records for model in record["models"]]
    noted = [Model(**model | {"versions": tuple(model["versions"])}) for model in named]
    return tuple({model.address: model for model in (*noted, *models)}.values())
