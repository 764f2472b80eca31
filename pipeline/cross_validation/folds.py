"""Assignment of speakers to the folds of a cross-validation."""

import collections
import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from modules.common.errors import SerError
from modules.data.clips import Clip
from modules.data.splits import EVAL, TEST, TRAIN, SplitSettings, assign_speakers
from pipeline.cross_validation.protocols.catalog import EvaluationProtocol

Kind = Literal["speakers", "corpus"]


class FoldsError(SerError, ValueError):
    """The recordings cannot be split into the requested folds."""

    code = "cross_validation.folds"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fold:
    """Speakers of one model of a cross-validation.

    Attributes:
        name: Name in reports.
        train: Speakers of the training data.
        eval: Speakers for early stopping and calibration, none of them a test speaker.
        test: Unseen speakers, which the model is evaluated on.
    """

    name: str
    train: tuple[str, ...]
    eval: tuple[str, ...]
    test: tuple[str, ...]

    def to_json(self) -> str:
        """Return canonical JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def speaker_folds(clips: Sequence[Clip], count: int, settings: SplitSettings) -> list[Fold]:
    """Return folds whose test speakers are neighbours by name, so that others can repeat the folds of a corpus.

    Every speaker is a test speaker of exactly one fold, and every corpus is spread over as many folds as possible.

    Args:
        clips: All clips.
        count: Number of folds.
        settings: Settings of the split of the other speakers into ``train`` and ``eval``.

    Returns:
        The folds.

    Raises:
        FoldsError: There are too few speakers.
    """
    speakers = _speakers_by_corpus(clips)
    total = sum(map(len, speakers.values()))
    fewest = 2 if total > 3 else 3
    if not fewest <= count <= total:
        raise FoldsError(
            f"{count} folds of {total} speakers cannot be made; "
            f"{f'give --folds from {fewest} to {total}' if fewest <= total else 'add a speaker'}, since training and "
            "early stopping need a speaker each in addition to the test speakers"
        )
    tests: list[list[str]] = [[] for _ in range(count)]
    for names in speakers.values():
        emptiest = sorted(range(count), key=lambda index: (len(tests[index]), index))
        parts = [part.tolist() for part in np.array_split(names, min(count, len(names)))]
        for index, part in zip(sorted(emptiest[: len(parts)]), parts, strict=True):
            tests[index] += part
    return [_fold(f"{number}: {_range(test)}", clips, test, settings) for number, test in enumerate(tests, start=1)]


def corpus_folds(clips: Sequence[Clip], settings: SplitSettings, *, option: str = "--leave-corpus-out") -> list[Fold]:
    """Return a fold for each corpus, with its speakers as test speakers.

    Args:
        clips: All clips.
        settings: Settings of the split of the other speakers into ``train`` and ``eval``.
        option: Option of the command that asks for these folds.

    Returns:
        The folds.

    Raises:
        FoldsError: There is only one corpus.
    """
    speakers = _speakers_by_corpus(clips)
    if len(speakers) < 2:
        raise FoldsError(
            f"{option} needs at least two corpora, and --data has {', '.join(speakers) or 'none'}; "
            "add a corpus or leave the option out"
        )
    return [_fold(f"without {corpus}", clips, test, settings) for corpus, test in speakers.items()]


def protocol_folds(clips: Sequence[Clip], protocol: EvaluationProtocol, settings: SplitSettings) -> list[Fold]:
    """Return the folds of a named protocol.

    Args:
        clips: All clips.
        protocol: The protocol.
        settings: Settings of the split of the other speakers into ``train`` and ``eval``.

    Returns:
        The folds.

    Raises:
        FoldsError: The clips do not have the speakers and emotions of the protocol.
    """
    option = f"--protocol {protocol.name}"
    if protocol.folds == "each corpus":
        return corpus_folds(clips, settings, option=option)
    speakers = sorted({clip.speaker for clip in clips})
    if protocol.folds == "each speaker":
        _require_three(speakers, option)
        return speaker_folds(clips, len(speakers), settings)
    _require_data_of(protocol, clips, option)
    return [
        _fold(f"{number}: {_short(test, speakers)}", clips, test, settings)
        for number, test in enumerate(protocol.listed, start=1)
    ]


def _require_three(speakers: Collection[str], option: str) -> None:
    if len(speakers) < 3:
        raise FoldsError(
            f"{option} needs at least three speakers, one each for training, early stopping and test, and --data has "
            f"{', '.join(speakers)}; add a speaker"
        )


def _require_data_of(protocol: EvaluationProtocol, clips: Iterable[Clip], option: str) -> None:
    """Refuse clips that lack a speaker or an emotion of the protocol, or have a speaker that it does not have."""
    speakers, emotions = {clip.speaker for clip in clips}, {clip.emotion for clip in clips}
    named = {speaker for test in protocol.listed for speaker in test}
    chosen = set(protocol.labels.emotions) if protocol.labels else emotions
    found = {
        "lacks": [*sorted(named - speakers), *sorted(chosen - emotions)],
        "also has": sorted(speakers - named),
    }
    if any(found.values()):
        raise FoldsError(
            f"{option} needs the {len(named)} speakers of {protocol.corpus} with {', '.join(sorted(chosen))}, and "
            f"--data {' and '.join(f'{verb} {_some(names)}' for verb, names in found.items() if names)}. Give a folder "
            f"with all of {protocol.corpus} and nothing else; `ser evaluate --protocol list` has other protocols"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"


def _short(test: Sequence[str], speakers: Sequence[str]) -> str:
    """Return the test speakers of one corpus: the first and last if they are neighbours, otherwise each."""
    start = speakers.index(test[0])
    if len(test) > 2 and list(test) == list(speakers[start : start + len(test)]):
        return _range(test)
    return ", ".join([test[0], *(speaker.rpartition("-")[2] for speaker in test[1:])])


def _fold(name: str, clips: Sequence[Clip], test: Sequence[str], settings: SplitSettings) -> Fold:
    """Return a fold whose other speakers are split as in the pipeline."""
    chosen = settings.replace(by="speaker", eval_speakers=(), test_speakers=tuple(test))
    split_of = assign_speakers(clips, chosen)
    return Fold(name=name, **{split: _in(split_of, split) for split in (TRAIN, EVAL, TEST)})


def _in(split_of: Mapping[str, str], split: str) -> tuple[str, ...]:
    return tuple(sorted(speaker for speaker, its_split in split_of.items() if its_split == split))


def _speakers_by_corpus(clips: Sequence[Clip]) -> dict[str, list[str]]:
    speakers: dict[str, set[str]] = collections.defaultdict(set)
    for clip in clips:
        speakers[clip.corpus].add(clip.speaker)
    return {corpus: sorted(names) for corpus, names in sorted(speakers.items())}


def _range(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
