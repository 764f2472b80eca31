"""Who judges the model in which fold of a cross-validation."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from modules.data.clips import Clip
from modules.data.splits import EVAL, TEST, TRAIN, SplitSettings, assign_speakers

Kind = Literal["speakers", "corpus"]


class FoldsError(ValueError):
    """The recordings do not make the folds that were asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fold:
    """One model: trained without its test speakers, and asked about them.

    Attributes:
        name: As people read it.
        eval: Speakers that early stopping and calibration listen to; training speakers, not test speakers.
    """

    name: str
    train: tuple[str, ...]
    eval: tuple[str, ...]
    test: tuple[str, ...]

    def to_json(self) -> str:
        """Canonical text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def speaker_folds(clips: Sequence[Clip], count: int, settings: SplitSettings) -> list[Fold]:
    """Leaves some speakers out of each fold: neighbours by name, so that the folds of a corpus are easily repeated.

    Every speaker is in the test part of exactly one fold, and every corpus is spread over as many folds as it can be.

    Raises:
        FoldsError: There are too few speakers.
    """
    speakers = _speakers_by_corpus(clips)
    total = sum(map(len, speakers.values()))
    if not 2 <= count <= total - 2:
        raise FoldsError(
            f"{count} folds of {total} speakers cannot be made: give --folds between 2 and {max(total - 2, 2)}; "
            "training and early stopping need a speaker each beside the test speakers"
        )
    tests: list[list[str]] = [[] for _ in range(count)]
    for names in speakers.values():
        emptiest = sorted(range(count), key=lambda index: (len(tests[index]), index))
        parts = [part.tolist() for part in np.array_split(names, min(count, len(names)))]
        for index, part in zip(sorted(emptiest[: len(parts)]), parts, strict=True):
            tests[index] += part
    return [_fold(f"{number}: {_range(test)}", clips, test, settings) for number, test in enumerate(tests, start=1)]


def corpus_folds(clips: Sequence[Clip], settings: SplitSettings) -> list[Fold]:
    """Leaves one corpus out of each fold.

    Raises:
        FoldsError: There is only one corpus.
    """
    speakers = _speakers_by_corpus(clips)
    if len(speakers) < 2:
        raise FoldsError(f"--leave-corpus-out needs two corpora or more; there is {', '.join(speakers) or 'none'}")
    return [_fold(f"without {corpus}", clips, test, settings) for corpus, test in speakers.items()]


def _fold(name: str, clips: Sequence[Clip], test: Sequence[str], settings: SplitSettings) -> Fold:
    """The other speakers are divided as the pipeline's own splits are."""
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
