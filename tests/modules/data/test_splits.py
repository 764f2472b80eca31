import collections
import csv
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.audio_example_gen.corpora import identify
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS, SPLITS, LabelSettings
from modules.data.splits import SplitError, assign, assign_speakers
from tests.original import ORIGINAL_SPLITS
from tests.paths import CORPORA, needs_corpora


def clips_of(corpus, speakers, clips_each, sexes=("female", "male")):
    return [
        Clip(
            path=f"{speaker:03d}/{number:04d}.wav",
            corpus=corpus,
            emotion=EMOTIONS[number % len(EMOTIONS)],
            speaker=f"{corpus}-{speaker:03d}",
            sex=sexes[speaker % len(sexes)],
        )
        for speaker in range(1, speakers + 1)
        for number in range(clips_each)
    ]


RAVDESS = clips_of("ravdess", 24, 60)
CREMA_D = clips_of("crema-d", 91, 82)
SAVEE = clips_of("savee", 4, 120, sexes=("male",))
TESS = clips_of("tess", 2, 1400, sexes=("female",))
EMODB = clips_of("emodb", 10, 45)

MIXTURES = {
    "ravdess": RAVDESS,
    "crema-d": CREMA_D,
    "savee": SAVEE,
    "emodb": EMODB,
    "tess+savee": TESS + SAVEE,
    "all": RAVDESS + CREMA_D + SAVEE + TESS + EMODB,
}


def shares(clips, split_of):
    counts = collections.Counter(split_of[clip.clip_id] for clip in clips)
    return {split: counts[split] / len(clips) for split in SPLITS}


corpora = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 40), st.sampled_from([("female",), ("male",), ("female", "male")])),
    min_size=1,
    max_size=4,
)


@given(corpora, st.integers(0, 5))
def test_splits_share_no_speaker_and_none_is_empty(sizes, seed):
    clips = [clip for index, size in enumerate(sizes) for clip in clips_of(f"c{index}", *size)]
    if len({clip.speaker for clip in clips}) < len(SPLITS):
        with pytest.raises(SplitError):
            assign(clips, ORIGINAL_SPLITS.replace(seed=seed))
        return
    split_of = assign(clips, ORIGINAL_SPLITS.replace(seed=seed))
    assert split_of.keys() == {clip.clip_id for clip in clips}
    assert set(split_of.values()) == set(SPLITS)
    splits_of_speaker = collections.defaultdict(set)
    for clip in clips:
        splits_of_speaker[clip.speaker].add(split_of[clip.clip_id])
    assert all(len(splits) == 1 for splits in splits_of_speaker.values())


@given(corpora, st.sampled_from(["speaker", "clip"]), st.randoms(use_true_random=False))
def test_the_order_of_the_clips_does_not_matter(sizes, by, shuffler):
    clips = [clip for index, size in enumerate([*sizes, (3, 2, ("male",))]) for clip in clips_of(f"c{index}", *size)]
    shuffled = list(clips)
    shuffler.shuffle(shuffled)
    assert assign(clips, ORIGINAL_SPLITS.replace(by=by)) == assign(shuffled, ORIGINAL_SPLITS.replace(by=by))


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("seed", range(3))
def test_a_corpus_of_three_speakers_or_more_is_in_every_split(name, seed):
    clips = MIXTURES[name]
    split_of = assign(clips, ORIGINAL_SPLITS.replace(seed=seed))
    covered = {(clip.corpus, split_of[clip.clip_id]) for clip in clips}
    expected = {(clip.corpus, split) for clip in clips for split in SPLITS if clip.corpus != "tess"}
    assert expected <= covered


@pytest.mark.parametrize(
    ("clips", "tolerance"), [(RAVDESS, 0.04), (CREMA_D, 0.01), (EMODB, 0.11), (MIXTURES["all"], 0.06)]
)
@pytest.mark.parametrize("seed", range(3))
def test_sizes_in_clips_are_close_to_the_shares(clips, tolerance, seed):
    seen = shares(clips, assign(clips, ORIGINAL_SPLITS.replace(seed=seed)))
    assert seen == pytest.approx({"train": 0.7, "eval": 0.15, "test": 0.15}, abs=tolerance)


@pytest.mark.parametrize("seed", range(5))
def test_women_and_men_are_in_every_split_alike(seed):
    split_of = assign(RAVDESS, ORIGINAL_SPLITS.replace(seed=seed))
    women = [clip for clip in RAVDESS if clip.sex == "female"]
    men = [clip for clip in RAVDESS if clip.sex == "male"]
    assert shares(women, split_of) == shares(men, split_of)


def test_the_seed_decides_the_speakers():
    first = assign_speakers(RAVDESS, ORIGINAL_SPLITS.replace(seed=1))
    assert first == assign_speakers(RAVDESS, ORIGINAL_SPLITS.replace(seed=1))
    assert first != assign_speakers(RAVDESS, ORIGINAL_SPLITS.replace(seed=2))


def test_speakers_of_different_sizes_are_balanced():
    sizes = [400, 200, *[10] * 60]
    clips = [clip for index, size in enumerate(sizes) for clip in clips_of(f"c{index}", 1, size)]
    clips = [Clip(path=clip.path, corpus="own", emotion=clip.emotion, speaker=clip.corpus) for clip in clips]
    seen = collections.Counter(assign_speakers(clips, ORIGINAL_SPLITS)[clip.speaker] for clip in clips)
    assert seen["train"] / len(clips) == pytest.approx(0.7, abs=0.05)


def splits_over_time(spans, settings=None):
    """Return the splits of each run, which reads the newest span and has the names of the earlier ones."""
    return [
        assign_speakers(span, settings or ORIGINAL_SPLITS, arrivals=spans[: number + 1])
        for number, span in enumerate(spans)
    ]


@given(st.lists(corpora, min_size=2, max_size=4), st.data())
def test_a_speaker_keeps_the_split_whoever_comes_later(sizes_of_spans, data):
    spans = []
    for sizes in sizes_of_spans:
        clips = [clip for index, size in enumerate(sizes) for clip in clips_of(f"c{index}", *size)]
        names = sorted({clip.speaker for clip in clips})
        absent = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
        spans.append([clip for clip in clips if clip.speaker not in absent])
    first_split: dict[str, str] = {}
    for number, span in enumerate(spans):
        try:
            split_of = assign_speakers(span, ORIGINAL_SPLITS, arrivals=spans[: number + 1])
        except SplitError:  # a split is empty: an error, since nobody may change the split
            continue
        assert split_of.keys() == {clip.speaker for clip in span}
        for speaker, split in split_of.items():
            assert first_split.setdefault(speaker, split) == split


def test_new_speakers_balance_the_earlier_ones():
    first = [clip for clip in RAVDESS if clip.speaker <= "ravdess-012"]
    early, late = splits_over_time([first, RAVDESS])
    assert early.items() <= late.items()
    assert shares(RAVDESS, {clip.clip_id: late[clip.speaker] for clip in RAVDESS}) == pytest.approx(
        {"train": 0.7, "eval": 0.15, "test": 0.15}, abs=0.04
    )
    assert collections.Counter(late[speaker] for speaker in late.keys() - early.keys()).keys() == set(SPLITS)


@pytest.mark.parametrize("seed", range(3))
def test_without_arrivals_speakers_change_splits(seed):
    """Negative control of the test above: chance in the number of clips is enough."""
    rng = random.Random(seed)
    spans = [rng.sample(RAVDESS, 300), rng.sample(RAVDESS, 300)]
    before, after = (assign_speakers(span, ORIGINAL_SPLITS) for span in spans)
    assert [speaker for speaker in after if after[speaker] == "test" != before.get(speaker, "test")]
    before, after = splits_over_time(spans)
    assert not [speaker for speaker in after if after[speaker] != before.get(speaker, after[speaker])]


def test_one_new_speaker_at_a_time_fills_all_splits():
    spans = [[clip for clip in RAVDESS if clip.speaker == f"ravdess-{number:03d}"] for number in range(1, 25)]
    split_of = assign_speakers(RAVDESS, ORIGINAL_SPLITS, arrivals=spans)
    assert collections.Counter(split_of.values()) == {"train": 16, "eval": 4, "test": 4}


def test_spans_without_a_test_speaker_are_refused():
    early, late = splits_over_time([SAVEE, SAVEE])
    assert early == late
    trained = [clip for clip in SAVEE if early[clip.speaker] != "test"]
    with pytest.raises(SplitError, match=r"ingest\.spans"):
        assign_speakers(trained, ORIGINAL_SPLITS, arrivals=[SAVEE, trained])


@pytest.mark.parametrize(("speakers", "in_test"), [(3, 1), (4, 2), (24, 4)])
def test_the_test_split_gets_the_speakers_that_the_gate_needs(speakers, in_test):
    clips = clips_of("toy", speakers, 60)
    split_of = assign_speakers(clips, ORIGINAL_SPLITS, min_test_speakers=2)
    assert collections.Counter(split_of.values())["test"] == in_test
    assert set(split_of.values()) == set(SPLITS)


@pytest.mark.parametrize("rare", ["ravdess-001", "ravdess-002", "ravdess-003"])
@pytest.mark.parametrize("seed", range(4))
def test_every_emotion_stays_in_training(rare, seed):
    clips = [clip for clip in RAVDESS if clip.emotion != "disgust" or clip.speaker == rare]
    split_of = assign(clips, ORIGINAL_SPLITS.replace(seed=seed), min_test_speakers=2)
    assert {clip.emotion for clip in clips if split_of[clip.clip_id] == "train"} == set(EMOTIONS)
    assert len({clip.speaker for clip in clips if split_of[clip.clip_id] == "test"}) >= 2


def test_too_few_speakers_are_refused():
    with pytest.raises(SplitError, match=r"tess-001, tess-002.*splits\.by=clip"):
        assign(TESS, ORIGINAL_SPLITS)


def test_named_speakers_make_a_fold():
    fold = ("ravdess-001", "ravdess-002", "ravdess-003", "ravdess-004")
    split_of = assign_speakers(RAVDESS, ORIGINAL_SPLITS.replace(test_speakers=fold))
    assert {speaker for speaker, split in split_of.items() if split == "test"} == set(fold)
    rest = collections.Counter(split for split in split_of.values() if split != "test")
    assert rest == {"train": 16, "eval": 4}  # 0.7 to 0.15 of the twenty that are left, women and men alike


def test_with_both_named_the_others_train():
    named = ORIGINAL_SPLITS.replace(eval_speakers=["ravdess-007"], test_speakers=["ravdess-001", "ravdess-002"])
    counts = collections.Counter(assign_speakers(RAVDESS, named).values())
    assert counts == {"train": 21, "eval": 1, "test": 2}


def test_naming_speakers_makes_two_enough():
    split_of = assign_speakers(
        clips_of("own", 3, 5), ORIGINAL_SPLITS.replace(eval_speakers=("own-001",), test_speakers=("own-002",))
    )
    assert split_of == {"own-001": "eval", "own-002": "test", "own-003": "train"}


def test_an_unknown_speaker_is_refused():
    with pytest.raises(SplitError, match=r"savee-XX.*savee-001, savee-002"):
        assign(SAVEE, ORIGINAL_SPLITS.replace(test_speakers=("savee-XX",)))


def test_naming_all_speakers_is_refused():
    with pytest.raises(SplitError, match="train"):
        assign(
            SAVEE,
            ORIGINAL_SPLITS.replace(eval_speakers=("savee-001", "savee-002"), test_speakers=("savee-003", "savee-004")),
        )


@pytest.mark.parametrize("clips", [TESS, RAVDESS, clips_of("own", 1, 6)], ids=["tess", "ravdess", "six clips"])
def test_clips_are_stratified_by_corpus_and_emotion(clips):
    chosen = ORIGINAL_SPLITS.replace(by="clip")
    split_of = assign(clips, chosen)
    assert set(split_of.values()) == set(SPLITS)
    assert shares(clips, split_of) == pytest.approx({"train": 0.7, "eval": 0.15, "test": 0.15}, abs=1 / len(clips))
    if len(clips) > 100:
        angry = [clip for clip in clips if clip.emotion == "angry"]
        assert shares(angry, split_of) == pytest.approx({"train": 0.7, "eval": 0.15, "test": 0.15}, abs=0.01)
    assert chosen.protocol == "random clips"
    assert ORIGINAL_SPLITS.protocol == "speaker-disjoint"


def test_random_clips_depend_on_the_seed():
    assert assign(TESS, ORIGINAL_SPLITS.replace(by="clip", seed=1)) != assign(
        TESS, ORIGINAL_SPLITS.replace(by="clip", seed=2)
    )


def test_five_clips_are_too_few():
    with pytest.raises(SplitError, match="5 clips"):
        assign(clips_of("own", 1, 5), ORIGINAL_SPLITS.replace(by="clip"))


def _no_side_files(path):
    raise FileNotFoundError(path)


@needs_corpora
def test_all_real_names_together_split_well():
    with (CORPORA / "names.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    clips = list(identify(paths, read_text=_no_side_files, labels=LabelSettings()).clips)
    assert len(clips) == len(paths)
    random.Random(0).shuffle(clips)
    split_of = assign(clips, ORIGINAL_SPLITS)
    assert shares(clips, split_of) == pytest.approx({"train": 0.7, "eval": 0.15, "test": 0.15}, abs=0.06)
