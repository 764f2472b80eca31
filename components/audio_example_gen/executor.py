"""Executor of the AudioExampleGen."""

import collections
import dataclasses
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import apache_beam as beam
from google.protobuf import wrappers_pb2
from tfx import types
from tfx.components.example_gen import utils
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from components.artifacts import Artifacts, Properties
from components.audio_example_gen.corpora import Identified, Rejected, identify, supported_layouts
from components.audio_example_gen.corpora.arrive import ARRIVING_FILE
from components.audio_example_gen.file_names import CLIPS_FILE
from components.audio_example_gen.files import Folder
from components.audio_example_gen.ingestion import (
    CLIPS_PER_SHARD,
    EXAMPLES_PER_BATCH,
    Outcome,
    Shard,
    WriteShard,
    drop_duplicates,
    find_duplicates,
)
from components.audio_example_gen.outlook import warnings
from components.audio_example_gen.patterns import level_patterns
from components.audio_example_gen.report import IngestError, NoRecordings, Report
from components.audio_example_gen.settings import IngestSettings
from components.audio_example_gen.spans import Span, fixed_folder, in_window, spans_until
from modules.common import live_line
from modules.common.addresses import read_bytes
from modules.common.digest import shuffle_key
from modules.common.progress import Progress, shown
from modules.data.clips import Clip
from modules.data.labels import SPLITS
from modules.data.splits import TRAIN, assign

_PLAN_FILE = "shards.jsonl"

_T = TypeVar("_T")


class Executor(base_beam_executor.BaseBeamExecutor):
    """Identification of recordings and assignment of speakers to splits; Beam processes the clips.

    It is derived from Beam's base, not from BaseExampleGenExecutor, which splits by hash and shuffles at random before
    it writes, so that two runs would write different files.
    """

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Write examples, ``clips.jsonl``, ``quarantine.jsonl`` and ``ingest.json``.

        Args:
            input_dict: Empty.
            output_dict: The examples.
            exec_properties: Those of TFX's FileBasedExampleGen.

        Raises:
            IngestError: Too few recordings are usable; the examples are incomplete then.
            ValueError: The speakers cannot fill the splits.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = read_settings(exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        _describe(examples)
        input_base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
        spans = _spans(exec_properties, settings)
        window = _read_window(input_base, spans, settings) if settings.spans > 1 else _read_folder(exec_properties)
        identified = _identify(window, settings)
        arrivals = [_clips_of(span, input_base, settings) for span in spans]
        emotions = settings.labels.occurring(clip.emotion for clip in identified.clips)
        split_of = assign(
            identified.clips, settings.splits, arrivals=arrivals, min_test_speakers=settings.min_test_speakers
        )
        for warning in warnings(identified.clips, split_of, settings):
            live_line.keep(f"AudioExampleGen  Warning: {warning}.")
        progress = Progress("AudioExampleGen", total=len(identified.clips), unit="clips")
        with shown(examples.uri, progress):
            shards = make_shards(identified.clips, split_of, settings)
            self._run_beam(shards, WriteShard(window.root, examples.uri, settings, emotions), examples.uri)
        report = Report(
            root=window.root,
            spans=tuple(filter(None, window.folders)),
            settings=settings,
            emotions=emotions,
            outcomes=_read_outcomes(examples.uri),
            rejected=identified.rejected,
            dropped=identified.dropped,
        )
        _finish(report, examples.uri)

    def _run_beam(self, shards: Iterable[Shard], write: WriteShard, folder: str) -> None:
        """Write the shards by Beam. Its graph has the path of their list alone, since Dataflow limits the graph."""
        plan = posixpath.join(folder, _PLAN_FILE)
        with fileio.open(plan, "w") as file:
            for shard in shards:
                file.write(f"{shard.to_json()}\n")
        with self._make_beam_pipeline() as p:
            outcomes = (
                p
                | "Plan" >> beam.Create([plan])
                | "ReadShards" >> beam.FlatMap(_lines)  # not ReadFromText, to which [ ] in the path is a pattern
                | "Spread" >> beam.Reshuffle()
                | "ParseShard" >> beam.Map(Shard.from_json)
                | "WriteShard" >> beam.ParDo(write)
                | "Gather" >> beam.combiners.ToList()
                | "FindDuplicates" >> beam.Map(find_duplicates)
            )
            _ = outcomes | "DropDuplicates" >> beam.Map(drop_duplicates, folder=folder)
            _ = outcomes | "WriteOutcomes" >> beam.Map(_write_outcomes, folder=folder)
        fileio.remove(plan)  # of a failed run TFX removes the folder


def _lines(path: str) -> Iterator[str]:
    with fileio.open(path) as file:
        yield from file


def read_settings(exec_properties: Properties) -> IngestSettings:
    """Return the settings that :func:`components.audio_example_gen.component.pack_settings` packed.

    Args:
        exec_properties: Properties of the component.

    Raises:
        ValueError: ``custom_config`` has another message.
    """
    custom_config = example_gen_pb2.CustomConfig()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY], custom_config)
    text = wrappers_pb2.StringValue()
    if not custom_config.custom_config.Unpack(text):
        raise ValueError(f"custom_config has {custom_config.custom_config.type_url!r}; allowed: packed IngestSettings")
    return IngestSettings.from_json(text.value)


def make_shards(clips: Iterable[Clip], split_of: Mapping[str, str], settings: IngestSettings) -> Iterator[Shard]:
    """Yield the shards of each split: :data:`CLIPS_PER_SHARD` shuffled clips, in batches that are extracted together.

    The result depends on clips and settings alone, so the files do not depend on the number of workers.

    Args:
        clips: All clips.
        split_of: Split of each clip, by its id.
        settings: Settings of the ingestion.
    """
    clips_of: dict[str, list[Clip]] = collections.defaultdict(list)
    for clip in sorted(clips, key=lambda clip: shuffle_key(settings.seed, clip.clip_id)):
        clips_of[split_of[clip.clip_id]].append(clip)
    for split in SPLITS:
        copies = len(settings.augmentation.variants) if split == TRAIN else 1
        parts = _cut(clips_of[split], CLIPS_PER_SHARD)
        for number, part in enumerate(parts):
            batches = _cut(part, max(1, EXAMPLES_PER_BATCH // copies))
            yield Shard(split, f"Split-{split}/data_tfrecord-{number:05d}-of-{len(parts):05d}.gz", batches)


def _cut(items: Sequence[_T], size: int) -> tuple[tuple[_T, ...], ...]:
    return tuple(tuple(items[start : start + size]) for start in range(0, len(items), size))


@dataclasses.dataclass(frozen=True)
class _Window:
    """Folders that a run reads.

    Attributes:
        root: Folder that the paths of all clips are relative to.
        folders: Folders by their path below ``root``: empty for the only one, ``span-2`` for a span among others.
    """

    root: str
    folders: Mapping[str, Folder]


def _read_folder(exec_properties: Properties) -> _Window:
    """Return the folder or span that the driver found. The paths in it do not depend on the number of the span."""
    input_config = example_gen_pb2.Input()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], input_config)
    input_base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
    folder = Folder(input_base, [split.pattern for split in input_config.splits])
    return _Window(folder.root, {"": folder})


def _spans(exec_properties: Properties, settings: IngestSettings) -> list[Span]:
    """Return the spans up to the one that the driver found; empty if the recordings have no spans."""
    if not settings.in_spans:
        return []
    newest = int(exec_properties[utils.SPAN_PROPERTY_NAME])
    input_base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
    _require_complete(posixpath.join(input_base, fixed_folder(settings.pattern), ARRIVING_FILE))
    return spans_until(newest, input_base, level_patterns(settings.pattern))


def _require_complete(marker: str) -> None:
    if fileio.exists(marker):
        raise IngestError(
            f"{read_bytes(marker).decode()} is incomplete: {marker} exists. Run again when `ser corpus arrive` has "
            "ended; if it was interrupted, run it again"
        )


def _read_window(input_base: str, spans: Sequence[Span], settings: IngestSettings) -> _Window:
    root = posixpath.join(input_base, fixed_folder(settings.pattern)).rstrip("/")
    folders = [Folder(input_base, span.patterns) for span in in_window(spans, settings.spans)]
    return _Window(root, {posixpath.relpath(folder.root, root): folder for folder in folders})


def _clips_of(span: Span, input_base: str, settings: IngestSettings) -> tuple[Clip, ...]:
    """Return the clips of a span by the names of its files."""
    folder = Folder(input_base, span.patterns)
    return identify(folder.paths(), read_text=folder.read_text, labels=settings.labels).clips


def _identify(window: _Window, settings: IngestSettings) -> Identified:
    """Identify the recordings span by span, so that a corpus or speaker has the same name in all of them."""
    if not fileio.isdir(window.root):
        raise NoRecordings(f"{window.root} is not a folder; give the folder of the recordings")
    parts = [_identify_in(folder, below, settings) for below, folder in window.folders.items()]
    clips = [clip for part in parts for clip in part.clips]
    rejected = tuple(file for part in parts for file in part.rejected)
    if not clips:
        raise NoRecordings(f"{window.root} has no usable recordings{_first_reason(rejected)}. {supported_layouts()}")
    dropped = sum((collections.Counter(part.dropped) for part in parts), collections.Counter[str]())
    return Identified(
        clips=tuple(sorted(clips, key=lambda clip: clip.clip_id)),
        rejected=rejected,
        dropped=dict(sorted(dropped.items())),
    )


def _identify_in(folder: Folder, below: str, settings: IngestSettings) -> Identified:
    identified = identify(folder.paths(), read_text=folder.read_text, labels=settings.labels)
    return dataclasses.replace(
        identified,
        clips=tuple(dataclasses.replace(clip, path=posixpath.join(below, clip.path)) for clip in identified.clips),
        rejected=tuple(
            Rejected(posixpath.join(below, file.path), file.reason) for file in (*identified.rejected, *folder.unread())
        ),
    )


def _first_reason(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return ": it has no sound files"
    return f": {len(rejected)} files are rejected, the first, {rejected[0].path}, because {rejected[0].reason}"


def _describe(examples: types.Artifact) -> None:
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    for split in SPLITS:
        fileio.makedirs(artifact_utils.get_split_uri([examples], split))


def _write_outcomes(outcomes: Iterable[Outcome], *, folder: str) -> None:
    with fileio.open(posixpath.join(folder, CLIPS_FILE), "w") as file:
        file.write("".join(f"{outcome.to_json()}\n" for outcome in outcomes))


def _read_outcomes(folder: str) -> list[Outcome]:
    lines = read_bytes(posixpath.join(folder, CLIPS_FILE)).decode().splitlines()
    return [Outcome.from_json(line) for line in lines]


def _finish(report: Report, uri: str) -> None:
    """Write the report; of a failure outside the artifact, since TFX deletes the outputs of a failed execution."""
    try:
        report.require_usable(posixpath.join(_failure_folder(uri), "quarantine.jsonl"))
    except IngestError:
        fileio.makedirs(_failure_folder(uri))
        report.write_quarantine(_failure_folder(uri))
        raise
    report.write(uri)


def _failure_folder(uri: str) -> str:
    return f"{uri.rstrip('/')}-failed"
