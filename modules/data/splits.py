"""Assignment of clips to the train, eval and test splits.

By default the splits share no speaker: results on training speakers are better than those on unseen speakers.
"""

import collections
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from modules.common.digest import shuffle_key
from modules.common.errors import SerError
from modules.common.settings import MAX_SEED, Settings
from modules.data.clips import Clip
from modules.data.labels import SPLITS

TRAIN, EVAL, TEST = SPLITS
PROTOCOLS: Mapping[str, str] = {"speaker": "speaker-disjoint", "clip": "random clips"}

Group = tuple[str, ...]


class SplitSettings(Settings):
    """How clips are distributed over the splits."""

    by: Literal["speaker", "clip"] = Field(
        "speaker",
        description="`speaker` keeps each speaker in one split; `clip` splits at random, so that a speaker may be in "
        "several splits and the results are too optimistic.",
    )
    train: float = Field(0.77, gt=0, lt=1, description="Share of the clips that train the model, before augmentation.")
    # Training does not stop early by default, so few speakers are kept from it: eval only calibrates.
    eval: float = Field(
        0.08, gt=0, lt=1, description="Share of the clips for early stopping, the tuner and the calibration."
    )
    test: float = Field(0.15, gt=0, lt=1, description="Share of the clips that the Evaluator scores the model on.")
    eval_speakers: tuple[str, ...] = Field(
        (), description="These speakers, such as `ravdess-07`, and no others are in the eval split."
    )
    test_speakers: tuple[str, ...] = Field((), description="These speakers and no others are in the test split.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the distribution of the speakers that are not named.")

    @model_validator(mode="after")
    def _require_whole(self) -> Self:
        total = sum(map(self.share, SPLITS))
        if abs(total - 1) > 1e-6:
            given = ", ".join(f"{split} is {self.share(split)}" for split in SPLITS)
            raise ValueError(f"{given}; allowed: shares that add up to 1, and these add up to {total:g}")
        return self

    @model_validator(mode="after")
    def _require_named_once(self) -> Self:
        twice = sorted(set(self.eval_speakers) & set(self.test_speakers))
        if twice:
            raise ValueError(f"{', '.join(twice)} is in eval_speakers and in test_speakers; allowed: one of them")
        if self.by == "clip" and (self.eval_speakers or self.test_speakers):
            raise ValueError("by is clip, and eval_speakers or test_speakers are named; allowed with by=speaker alone")
        return self

    def share(self, split: str) -> float:
        """Return the share of the clips of a split, 0 to 1."""
        return getattr(self, split)

    @property
    def protocol(self) -> str:
        """Name of the protocol in reports."""
        return PROTOCOLS[self.by]


class SplitError(SerError, ValueError):
    """Clips that cannot be split as the settings require."""

    code = "data.splits"


def assign(
    clips: Sequence[Clip],
    settings: SplitSettings,
    *,
    arrivals: Sequence[Sequence[Clip]] = (),
    min_test_speakers: int = 1,
) -> dict[str, str]:
    """Assign every clip to one split, independent of the order of the clips.

    Speakers are distributed so that each split has its share of all clips and, as far as whole speakers allow, of
    every corpus and of the women and men in it; a corpus of three or more speakers is in every split.

    Args:
        clips: Clips to assign.
        settings: Settings of the splits.
        arrivals: All recordings so far by span, the oldest span first; by default ``clips`` is the only span. A
            speaker keeps the split of his or her first span, since a baseline must not be tested on speakers that it
            was trained on. A random split of clips ignores it.
        min_test_speakers: Speakers that the test split gets if the other splits keep at least one each.

    Returns:
        Split of every ``clip_id``.

    Raises:
        SplitError: A split would stay empty, or a named speaker has no clip.
    """
    if settings.by == "clip":
        return _assign_clips(clips, settings)
    split_of = assign_speakers(clips, settings, arrivals=arrivals, min_test_speakers=min_test_speakers)
    return {clip.clip_id: split_of[clip.speaker] for clip in clips}


def assign_speakers(
    clips: Iterable[Clip],
    settings: SplitSettings,
    *,
    arrivals: Sequence[Sequence[Clip]] = (),
    min_test_speakers: int = 1,
) -> dict[str, str]:
    """Assign every speaker of ``clips`` to one split; see :func:`assign`.

    Args:
        clips: Clips of the speakers.
        settings: Settings of the splits.
        arrivals: All recordings so far by span; see :func:`assign`.
        min_test_speakers: See :func:`assign`.

    Returns:
        Split of every speaker.

    Raises:
        SplitError: A split would stay empty, or a named speaker has no clip.
    """
    clips_of = _by_speaker(clips)
    arrived = [_by_speaker(arrival) for arrival in arrivals] or [clips_of]
    named = _named_speakers({speaker for arrival in arrived for speaker in arrival}, settings)
    open_splits = [split for split in SPLITS if split not in named.values()]
    if len(arrived) == 1:
        _require_enough(len(clips_of), clips_of.keys() - named.keys(), open_splits)
    assignment = _Assignment(open_splits, settings, min_test_speakers)
    for arrival in arrived:
        assignment.add({speaker: clips for speaker, clips in arrival.items() if speaker not in named})
    split_of = assignment.split_of | named
    assigned = {speaker: split_of[speaker] for speaker in clips_of}
    _require_every_split(assigned)
    return assigned


def _by_speaker(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    clips_of: dict[str, list[Clip]] = collections.defaultdict(list)
    for clip in clips:
        clips_of[clip.speaker].append(clip)
    return dict(clips_of)


def _named_speakers(speakers: Collection[str], settings: SplitSettings) -> dict[str, str]:
    named = dict.fromkeys(settings.eval_speakers, EVAL) | dict.fromkeys(settings.test_speakers, TEST)
    unknown = sorted(named.keys() - set(speakers))
    if unknown:
        raise SplitError(
            f"splits.eval_speakers or splits.test_speakers is {', '.join(unknown)}, and no clip has this speaker; "
            f"allowed: {', '.join(sorted(speakers))}"
        )
    return named


def _require_enough(speakers: int, free: Collection[str], open_splits: Sequence[str]) -> None:
    if len(free) < len(open_splits):
        raise SplitError(
            f"{speakers} speakers cannot fill the splits {', '.join(SPLITS)} without being in two of them: "
            f"{len(free)} are left ({', '.join(sorted(free)) or 'none'}) for {', '.join(open_splits)}, and each needs "
            "at least one. Add a corpus with other speakers, or set splits.by=clip, whose results do not hold for "
            "unseen speakers"
        )


def _require_every_split(split_of: Mapping[str, str]) -> None:
    """Refuse an empty split, which speakers of earlier spans may leave although there are enough speakers."""
    missing = [split for split in SPLITS if split not in split_of.values()]
    if missing:
        raise SplitError(
            f"none of the {len(split_of)} speakers ({', '.join(sorted(split_of))}) is in {', '.join(missing)}: they "
            "keep the splits that they had in earlier spans. Read more spans at once (ingest.spans), or name speakers "
            "with splits.eval_speakers and splits.test_speakers"
        )


class _Assignment:
    """Splits of the speakers so far. Each arrival is read once: it costs no more after many others.

    Args:
        splits: Splits to choose from.
        settings: Settings of the splits.
        min_test_speakers: See :func:`assign`.

    Attributes:
        split_of: Split of every speaker.
    """

    def __init__(self, splits: Sequence[str], settings: SplitSettings, min_test_speakers: int) -> None:
        self.split_of: dict[str, str] = {}
        self._splits, self._settings, self._min_test_speakers = splits, settings, min_test_speakers
        self._speakers: collections.Counter[str] = collections.Counter()  # by split
        self._overall = _Balance(splits, settings)
        self._emotions: set[str] = set()
        self._trained: set[str] = set()  # emotions of the training speakers

    def add(self, clips_of: Mapping[str, Sequence[Clip]]) -> None:
        """Assign the new speakers of an arrival.

        Args:
            clips_of: Clips of the arrival, by speaker.
        """
        here = _Balance(self._splits, self._settings)
        new = {speaker: clips for speaker, clips in clips_of.items() if speaker not in self.split_of}
        for balance in (self._overall, here):
            for speaker, clips in clips_of.items():
                balance.expect(clips)
                if speaker not in new:
                    balance.put(clips, self.split_of[speaker])
        self._distribute(new, here)
        if TEST in self._splits:
            self._fill_test(new)
        emotions_of = {speaker: {clip.emotion for clip in clips} for speaker, clips in clips_of.items()}
        self._emotions = self._emotions.union(*emotions_of.values())
        self._trained = self._trained.union(*(emotions_of[each] for each in clips_of if self.split_of[each] == TRAIN))
        if TRAIN in self._splits:
            self._keep_emotions_in_train(new, emotions_of)

    def _distribute(self, new: Mapping[str, Sequence[Clip]], here: "_Balance") -> None:
        """Assign the speakers one after the other, each to the split that improves the balance most."""
        waiting = _order(new, self._settings.seed)
        left_of_corpus = collections.Counter(corpus for _, corpus in waiting)
        for number, (speaker, corpus) in enumerate(waiting):
            lacking = _splits_in_need(here, len(waiting) - number, corpus, left_of_corpus[corpus])
            left_of_corpus[corpus] -= 1
            counts = _count_groups(new[speaker])
            split = min(lacking or self._splits, key=lambda split: self._overall.cost(counts, split))
            here.put(new[speaker], split)
            self._place(speaker, new[speaker], split)

    def _place(self, speaker: str, clips: Sequence[Clip], split: str) -> None:
        if speaker in self.split_of:
            self._overall.take(clips, self.split_of[speaker])
            self._speakers[self.split_of[speaker]] -= 1
        self._overall.put(clips, split)
        self._speakers[split] += 1
        self.split_of[speaker] = split

    def _fill_test(self, new: Mapping[str, Sequence[Clip]]) -> None:
        """Move training speakers with few clips to test until it has enough speakers or train has one left."""
        train = sorted((s for s in new if self.split_of[s] == TRAIN), key=lambda speaker: (len(new[speaker]), speaker))
        missing = self._min_test_speakers - self._speakers[TEST]
        for speaker in train[: max(0, min(missing, self._speakers[TRAIN] - 1))]:
            self._place(speaker, new[speaker], TEST)

    def _keep_emotions_in_train(
        self, new: Mapping[str, Sequence[Clip]], emotions_of: Mapping[str, Collection[str]]
    ) -> None:
        """Move a speaker to train for each emotion that no training speaker has, if the other splits can spare one."""
        needed = {EVAL: 1, TEST: max(1, self._min_test_speakers)}
        for emotion in sorted(self._emotions - self._trained):
            if emotion in self._trained:  # of a speaker who was moved for another emotion
                continue
            speakers = [speaker for speaker in new if emotion in emotions_of[speaker]]
            spare = [s for s in speakers if self._speakers[self.split_of[s]] > needed[self.split_of[s]]]
            if spare:
                speaker = min(spare, key=lambda speaker: (len(new[speaker]), speaker))
                self._place(speaker, new[speaker], TRAIN)
                self._trained |= set(emotions_of[speaker])


def _order(clips_of: Mapping[str, Sequence[Clip]], seed: int) -> list[tuple[str, str]]:
    """Return speakers and their corpora, at random but those with many clips first: later ones balance them."""

    def rank(speaker: str) -> tuple[int, str]:
        return -int(math.log2(len(clips_of[speaker]))), shuffle_key(seed, speaker)

    return [(speaker, clips_of[speaker][0].corpus) for speaker in sorted(clips_of, key=rank)]


def _splits_in_need(balance: "_Balance", left: int, corpus: str, left_of_corpus: int) -> list[str]:
    """Return the splits that lack a speaker, if only as many speakers are left to assign.

    Args:
        balance: Balance of the arrival.
        left: Speakers left to assign.
        corpus: Corpus of the next one.
        left_of_corpus: Speakers of this corpus left to assign.
    """
    empty = balance.splits_without(())
    if left <= len(empty):
        return empty
    lacking = balance.splits_without((corpus,))
    return lacking if left_of_corpus == len(lacking) else []


class _Balance:
    """Deviations of the splits from their shares of each group: all clips, each corpus, each sex of a corpus."""

    def __init__(self, splits: Sequence[str], settings: SplitSettings) -> None:
        whole = sum(settings.share(split) for split in splits)
        self._share = {split: settings.share(split) / whole for split in splits}
        self._total: collections.Counter[Group] = collections.Counter()
        self._filled: dict[str, collections.Counter[Group]] = {split: collections.Counter() for split in splits}

    def expect(self, clips: Iterable[Clip]) -> None:
        """Count clips that will be put into a split."""
        self._total.update(_count_groups(clips))

    def put(self, clips: Iterable[Clip], split: str) -> None:
        self._filled[split].update(_count_groups(clips))

    def take(self, clips: Iterable[Clip], split: str) -> None:
        self._filled[split].subtract(_count_groups(clips))

    def splits_without(self, group: Group) -> list[str]:
        return [split for split, filled in self._filled.items() if not filled[group]]

    def cost(self, counts: Mapping[Group, int], split: str) -> float:
        """Return the change of the sum of squared deviations if clips with these groups were put into ``split``."""
        change = 0.0
        for group, count in counts.items():
            part, filled = count / self._total[group], self._filled[split][group] / self._total[group]
            change += part * (part + 2 * (filled - self._share[split]))
        return change


def _count_groups(clips: Iterable[Clip]) -> "collections.Counter[Group]":
    groups: collections.Counter[Group] = collections.Counter()
    for clip in clips:
        groups.update([(), (clip.corpus,), (clip.corpus, clip.sex)])
    return groups


def _assign_clips(clips: Sequence[Clip], settings: SplitSettings) -> dict[str, str]:
    """Assign the clips at random, stratified by corpus and emotion."""
    if len(clips) < 2 * len(SPLITS):
        raise SplitError(f"there are {len(clips)} clips; splits.by=clip needs at least {2 * len(SPLITS)}")
    ordered = sorted(clips, key=lambda clip: (clip.corpus, clip.emotion, shuffle_key(settings.seed, clip.clip_id)))
    counts = dict.fromkeys(SPLITS, 0)
    split_of = {}
    for number, clip in enumerate(ordered, start=1):
        split = max(SPLITS, key=lambda split: settings.share(split) * number - counts[split])
        counts[split] += 1
        split_of[clip.clip_id] = split
    return split_of
