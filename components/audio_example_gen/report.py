"""Report of an ingestion: a summary and the quarantined recordings."""

import collections
import dataclasses
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfx.dsl.io import fileio

from components.audio_example_gen.corpora import Rejected
from components.audio_example_gen.file_names import QUARANTINE_FILE, SUMMARY_FILE
from components.audio_example_gen.ingestion import Outcome
from components.audio_example_gen.outlook import emotions_fault, share_fault
from components.audio_example_gen.settings import IngestSettings
from modules.common.errors import SerError
from modules.data.labels import SPLITS

_WORST_REASONS = 5


class IngestError(SerError, RuntimeError):
    """The recordings do not make a data set."""

    code = "ingest.failed"


class NoRecordings(IngestError):
    """The folder is missing or has no usable recordings."""

    code = "ingest.no_recordings"


class TooManyQuarantined(IngestError):
    """The share of quarantined recordings is above ``ingest.max_quarantined_share``."""

    code = "ingest.too_many_quarantined"


class OneEmotion(IngestError):
    """All usable recordings have the same emotion."""

    code = "ingest.one_emotion"


class EmptySplit(IngestError):
    """A split has no usable recordings."""

    code = "ingest.empty_split"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Outcome of every recording.

    Attributes:
        root: The ingested folder.
        settings: Settings of the ingestion.
        emotions: Emotions of the model, in the order of its outputs.
        outcomes: Outcomes of the identified recordings, with duplicates marked.
        rejected: Files that could not be identified.
        dropped: See :class:`components.audio_example_gen.corpora.Identified`.
        spans: Folder of each span that was read, relative to ``root``, the newest last.
    """

    root: str
    settings: IngestSettings
    emotions: Sequence[str]
    outcomes: Sequence[Outcome]
    rejected: Sequence[Rejected]
    dropped: Mapping[str, int]
    spans: Sequence[str] = ()

    @property
    def used(self) -> list[Outcome]:
        """Outcomes of the recordings with examples."""
        return [outcome for outcome in self.outcomes if outcome.used]

    @property
    def quarantined(self) -> list[Rejected]:
        """Unusable files with reasons, sorted by path."""
        failed = [Rejected(outcome.clip.path, outcome.reason) for outcome in self.outcomes if outcome.reason]
        return sorted([*self.rejected, *failed], key=lambda file: (file.path, file.reason))

    @property
    def quarantined_share(self) -> float:
        """Share of the recordings that are quarantined, 0 to 1."""
        recordings = len(self.outcomes) + len(self.rejected)
        return len(self.quarantined) / recordings if recordings else 0.0

    def _clips_by_span(self) -> dict[str, int]:
        depths = {len(folder.split("/")) for folder in self.spans}
        parts = [outcome.clip.path.split("/") for outcome in self.used]
        counts = collections.Counter("/".join(part[:depth]) for part in parts for depth in depths)
        return {folder: counts[folder] for folder in self.spans}

    def reasons(self) -> dict[str, int]:
        """Return the number of quarantined recordings by kind of reason, the most frequent first."""
        return dict(collections.Counter(_kind(file.reason) for file in self.quarantined).most_common())

    def summary(self) -> dict[str, Any]:
        """Return the content of ``ingest.json``."""
        settings = self.settings
        return {
            "root": self.root,
            "protocol": settings.splits.protocol,
            "seed": settings.seed,
            "emotions": list(self.emotions),
            "labels": settings.labels.model_dump(mode="json"),
            "audio_spec": settings.audio.model_dump(mode="json"),
            "audio_spec_fingerprint": settings.audio.fingerprint,
            "augmentation_variants": list(settings.augmentation.variants),
            **_census(self.used),
            "splits": {split: _census([one for one in self.used if one.split == split]) for split in SPLITS},
            "quarantined": {
                "clips": len(self.quarantined),
                "share": self.quarantined_share,
                "reasons": self.reasons(),
            },
            "dropped": dict(self.dropped),
            "spans": self._clips_by_span(),
            "duplicates": _duplicates(self.outcomes),
        }

    def require_usable(self, quarantine_path: str) -> None:
        """Check that enough recordings are usable.

        Args:
            quarantine_path: Path of the list of quarantined recordings, for the message.

        Raises:
            TooManyQuarantined: The share of quarantined recordings is too large.
            EmptySplit: A split has no clip.
            OneEmotion: All clips have the same emotion.
        """
        recordings = len(self.outcomes) + len(self.rejected)
        if fault := share_fault(len(self.quarantined), recordings, self.settings):
            raise TooManyQuarantined(
                f"{fault}. Most frequent: {self._worst()}. Every path with its reason: {quarantine_path}"
            )
        empty = sorted(set(SPLITS) - {outcome.split for outcome in self.used})
        if empty:
            raise EmptySplit(
                f"{', '.join(empty)} has no usable clips: {self._worst()}. "
                f"Every path with its reason: {quarantine_path}"
            )
        if fault := emotions_fault(self.emotions):
            raise OneEmotion(fault)

    def _worst(self) -> str:
        worst = list(self.reasons().items())[:_WORST_REASONS]
        return "; ".join(f"{count} x {reason}" for reason, count in worst)

    def write_quarantine(self, folder: str) -> str:
        """Write ``quarantine.jsonl`` and return its path.

        Args:
            folder: Folder to write into.
        """
        path = posixpath.join(folder, QUARANTINE_FILE)
        _write_lines(path, (json.dumps(dataclasses.asdict(file)) for file in self.quarantined))
        return path

    def write(self, folder: str) -> None:
        """Write the summary and the quarantine.

        Args:
            folder: Folder to write into.
        """
        self.write_quarantine(folder)
        _write_lines(posixpath.join(folder, SUMMARY_FILE), [json.dumps(self.summary(), indent=2)])


def _kind(reason: str) -> str:
    """Return the code of ``AUDIO_TOO_SHORT: 0.050 s; at least …``, since numbers and names differ between clips."""
    return re.sub(r"\d[\d.e+-]*", "N", re.split(r"[:;]", reason, maxsplit=1)[0])


def _census(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    clips = [outcome.clip for outcome in outcomes]
    return {
        "clips": len(clips),
        "examples": sum(outcome.examples for outcome in outcomes),
        "synthetic": sum(outcome.synthetic for outcome in outcomes),
        "hours": sum(outcome.duration_sec for outcome in outcomes) / 3600,
        "speakers": sorted({clip.speaker for clip in clips}),
        **{field: _count(getattr(clip, field) for clip in clips) for field in ("corpus", "emotion", "sex")},
    }


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(collections.Counter(values).items()))


def _duplicates(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return groups of recordings with the same content, the used one first."""
    groups: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.duplicate_of:
            groups.setdefault(outcome.duplicate_of, [outcome.duplicate_of]).append(outcome.clip.path)
    return {"clips": sum(len(group) - 1 for group in groups.values()), "groups": list(groups.values())}


def _write_lines(path: str, lines: Iterable[str]) -> None:
    with fileio.open(path, "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
