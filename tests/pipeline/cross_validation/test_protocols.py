"""Named protocols: complete and disjoint folds with their hash, and data that do not fit them."""

import hashlib
import itertools
import json

import pytest

from components.audio_example_gen.corpora import identify
from modules.data.clips import Clip
from modules.data.labels import LabelSettings
from modules.data.splits import SplitSettings
from pipeline.config import load_config
from pipeline.cross_validation.folds import FoldsError, protocol_folds
from pipeline.cross_validation.protocols.catalog import (
    ProtocolError,
    folds_digest,
    protocol_named,
    protocol_names,
)

NAMES = {
    "ravdess": [f"03-01-{emotion:02}-01-01-01-{actor:02}.wav" for emotion in range(1, 9) for actor in range(1, 25)],
    "crema-d": [
        f"{actor}_IEO_{emotion}_LO.wav"
        for actor in range(1001, 1092)
        for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    ],
    "savee": [
        f"{speaker}/{emotion}01.wav"
        for speaker in ("DC", "JE", "JK", "KL")
        for emotion in ("a", "d", "f", "h", "n", "sa", "su")
    ],
    "emodb": [
        f"{speaker}a01{emotion}a.wav"
        for speaker in ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
        for emotion in "WLEAFTN"
    ],
}
"""Names of recordings of every speaker and emotion, by corpus."""

LISTED = [name for name in protocol_names() if protocol_named(name).listed]
SETTINGS = SplitSettings()


def clips_of(corpus: str, labels: LabelSettings) -> list[Clip]:
    def no_side_file(path: str) -> str:
        raise FileNotFoundError(path)

    return list(identify(NAMES[corpus], read_text=no_side_file, labels=labels).clips)


def clips_for(name: str) -> list[Clip]:
    protocol = protocol_named(name)
    return clips_of(protocol.corpus, protocol.labels)


def test_protocols_of_each_kind_exist():
    assert {protocol_named(name).corpus for name in LISTED} == set(NAMES)
    assert set(protocol_names()) - set(LISTED) == {"leave-one-corpus-out", "leave-one-speaker-out"}


@pytest.mark.parametrize("name", LISTED)
def test_each_speaker_of_the_corpus_is_tested_once(name):
    clips = clips_for(name)
    folds = protocol_folds(clips, protocol_named(name), SETTINGS)
    tested = [speaker for fold in folds for speaker in fold.test]
    assert sorted(tested) == sorted({clip.speaker for clip in clips})
    for fold in folds:
        assert fold.train
        assert fold.eval
        assert len({*fold.train, *fold.eval, *fold.test}) == len((*fold.train, *fold.eval, *fold.test)) == len(tested)


@pytest.mark.parametrize("name", LISTED)
def test_hash_in_the_file_is_that_of_the_folds(name):
    protocol = protocol_named(name)
    text = json.dumps([sorted(test) for test in protocol.listed])
    assert protocol.folds_sha256 == hashlib.sha256(text.encode()).hexdigest()
    folds = protocol_folds(clips_for(name), protocol, SETTINGS)
    assert folds_digest([fold.test for fold in folds]) == protocol.folds_sha256


def test_published_folds_are_those_of_their_sources():
    names = [name for name in LISTED if name.startswith("ravdess")]
    actors = {name: [[int(actor) for actor in test] for test in protocol_named(name).folds] for name in names}
    assert actors == {
        "ravdess-emobox": [
            [1, 11, 20, 21], [4, 10, 12, 14], [8, 9, 19, 23], [3, 5, 7, 24], [2, 15, 16, 18], [6, 13, 17, 22],
        ],
        "ravdess-luna-jimenez": [
            [2, 5, 14, 15, 16], [3, 6, 7, 13, 18], [10, 11, 12, 19, 20], [8, 17, 21, 23, 24], [1, 4, 9, 22],
        ],
        "ravdess-ordered": [list(range(first, first + 4)) for first in range(1, 25, 4)],
    }  # fmt: skip


def test_hash_depends_on_the_folds_and_not_on_the_order_in_a_fold():
    folds = [["a-1", "a-2"], ["a-3"]]
    assert folds_digest(folds) == folds_digest([["a-2", "a-1"], ["a-3"]])
    others = [[["a-1"], ["a-2", "a-3"]], [["a-3"], ["a-1", "a-2"]], [["a-1", "a-2"]]]
    assert len({folds_digest(each) for each in (folds, *others)}) == 4


def test_names_of_folds_have_their_speakers():
    folds = protocol_folds(clips_for("ravdess-emobox"), protocol_named("ravdess-emobox"), SETTINGS)
    assert folds[0].name == "1: ravdess-01, 11, 20, 21"
    folds = protocol_folds(clips_for("crema-d-ordered"), protocol_named("crema-d-ordered"), SETTINGS)
    assert folds[-1].name == "5: crema-d-1074 to crema-d-1091"


@pytest.mark.parametrize(
    ("lost", "words"), [("speaker", "lacks ravdess-24"), ("emotion", "lacks calm"), (None, "also has savee-DC")]
)
def test_data_that_do_not_fit_are_refused(lost, words):
    protocol = protocol_named("ravdess-emobox")
    clips = [clip for clip in clips_for(protocol.name) if not lost or getattr(clip, lost) not in ("ravdess-24", "calm")]
    if not lost:
        clips += clips_of("savee", protocol.labels)
    with pytest.raises(FoldsError, match=words) as refused:
        protocol_folds(clips, protocol, SETTINGS)
    assert "24 speakers of ravdess" in str(refused.value)
    assert "--protocol list" in str(refused.value)


def test_one_speaker_is_left_out_of_any_corpora():
    clips = clips_of("savee", LabelSettings()) + clips_of("emodb", LabelSettings())
    folds = protocol_folds(clips, protocol_named("leave-one-speaker-out"), SETTINGS)
    assert sorted(itertools.chain(*(fold.test for fold in folds))) == sorted({clip.speaker for clip in clips})
    assert {len(fold.test) for fold in folds} == {1}
    assert all(fold.train and fold.eval for fold in folds)


def test_a_single_corpus_or_two_speakers_are_refused():
    clips = clips_of("savee", LabelSettings())
    with pytest.raises(FoldsError, match="--protocol leave-one-corpus-out"):
        protocol_folds(clips, protocol_named("leave-one-corpus-out"), SETTINGS)
    two = [clip for clip in clips if clip.speaker in ("savee-DC", "savee-JE")]
    with pytest.raises(FoldsError, match="savee-DC, savee-JE"):
        protocol_folds(two, protocol_named("leave-one-speaker-out"), SETTINGS)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ProtocolError) as refused:
        protocol_named("../ravdess-emobox")
    assert all(name in str(refused.value) for name in protocol_names())


def test_emotions_are_those_of_the_protocol():
    emobox = protocol_named("ravdess-emobox")
    configured = emobox.configured(load_config(overrides=["training.seed=3"]))
    assert configured.labels.emotions == emobox.labels.emotions
    assert configured.training.seed == 3
    assert emobox.configured(configured) == configured
    with pytest.raises(ProtocolError, match="labels is angry, sad"):
        emobox.configured(load_config(overrides=["labels.emotions=[angry, sad]", "labels.mapping={}"]))
    own = load_config(overrides=["labels.emotions=[angry, sad]", "labels.mapping={}"])
    assert protocol_named("leave-one-speaker-out").configured(own) == own
