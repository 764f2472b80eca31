"""Folds: each speaker is in one part of a fold, and a test speaker of one fold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.data.clips import Clip
from pipeline.cross_validation.folds import FoldsError, corpus_folds, speaker_folds
from tests.original import ORIGINAL_SPLITS


def clips_of(sizes: dict[str, int]) -> list[Clip]:
    return [
        Clip(path=f"{speaker}-{take}.wav", corpus=corpus, emotion="sad", speaker=f"{corpus}-{speaker:02}")
        for corpus, speakers in sizes.items()
        for speaker in range(1, speakers + 1)
        for take in range(2)
    ]


def test_six_folds_of_ravdess_have_four_actors_each():
    folds = speaker_folds(clips_of({"ravdess": 24}), 6, ORIGINAL_SPLITS)
    assert [fold.test for fold in folds] == [
        tuple(f"ravdess-{actor:02}" for actor in range(first, first + 4)) for first in range(1, 25, 4)
    ]
    assert folds[0].name == "1: ravdess-01 to ravdess-04"


corpora = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 12), min_size=1)


@given(sizes=corpora, count=st.integers(2, 12), seed=st.integers(0, 3))
def test_each_speaker_is_a_test_speaker_of_one_fold(sizes, count, seed):
    clips = clips_of(sizes)
    speakers = sorted({clip.speaker for clip in clips})
    try:
        folds = speaker_folds(clips, count, ORIGINAL_SPLITS.replace(seed=seed))
    except ValueError:
        assert len(speakers) < 2 * count + 2
        return
    assert sorted(speaker for fold in folds for speaker in fold.test) == speakers
    for fold in folds:
        assert fold.train
        assert fold.eval
        assert sorted((*fold.train, *fold.eval, *fold.test)) == speakers


@given(sizes=corpora)
def test_a_corpus_left_out_is_not_trained_on(sizes):
    clips = clips_of(sizes)
    try:
        folds = corpus_folds(clips, ORIGINAL_SPLITS)
    except ValueError:
        assert len(sizes) < 2 or sum(sizes.values()) - max(sizes.values()) < 2
        return
    assert len(folds) == len(sizes)
    for fold, corpus in zip(folds, sorted(sizes), strict=True):
        assert {speaker.split("-")[0] for speaker in fold.test} == {corpus}
        assert corpus not in {speaker.split("-")[0] for speaker in (*fold.train, *fold.eval)}
        assert fold.train
        assert fold.eval


def test_a_corpus_with_few_speakers_is_spread_evenly():
    folds = speaker_folds(clips_of({"big": 12, "small": 3}), 6, ORIGINAL_SPLITS)
    assert sorted(len(fold.test) for fold in folds) == [2, 2, 2, 3, 3, 3]
    assert sum(any(name.startswith("small") for name in fold.test) for fold in folds) == 3


def test_too_few_speakers_or_corpora_are_refused():
    with pytest.raises(FoldsError) as error:
        speaker_folds(clips_of({"a": 4}), 9, ORIGINAL_SPLITS)
    assert "9 folds of 4 speakers" in str(error.value)
    with pytest.raises(FoldsError) as error:
        corpus_folds(clips_of({"a": 4}), ORIGINAL_SPLITS)
    assert "--leave-corpus-out" in str(error.value)
