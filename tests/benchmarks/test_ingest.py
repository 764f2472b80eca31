import itertools
from pathlib import Path

from benchmarks import ingest
from tests.original import ORIGINAL_INGEST


def ravdess(folder: Path) -> None:
    """Create empty files for 24 speakers with 4 emotions and 2 takes each; only their names are read."""
    for actor, emotion, take in itertools.product(range(1, 25), range(3, 7), (1, 2)):
        path = folder / f"Actor_{actor:02}" / f"03-01-{emotion:02}-01-01-{take:02}-{actor:02}.flac"
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_clips_cover_all_speakers_and_mostly_train(tmp_path):
    ravdess(tmp_path)
    chosen = ingest.choose(tmp_path, 48, ORIGINAL_INGEST)
    assert len({clip.clip_id for clip, _ in chosen}) == 48
    assert len({clip.speaker for clip, _ in chosen}) == 24
    speakers = {training: {clip.speaker for clip, its in chosen if its == training} for training in (True, False)}
    assert not speakers[True] & speakers[False]
    assert len(speakers[True]) > len(speakers[False]) > 0


def test_librosa_is_measured_where_it_has_something_to_compare_with():
    measured = list(ingest.planned(["encoder_cnn", "attentive_crnn"]))
    assert [how for family, _, how in measured if family == "encoder_cnn"] == list(ingest.WORKERS)
    assert ("attentive_crnn", "librosa", ingest.PROCESSES) in measured
    assert not any(family == "encoder_cnn" and candidate == "librosa" for family, candidate, _ in measured)


def test_table_compares_with_librosa_and_with_one_worker():
    family = "attentive_crnn"
    one = {(family, "librosa", ingest.ONE): 4.0, (family, "ours", ingest.ONE): 8.0}
    two = {(family, "librosa", ingest.PROCESSES): 6.0, (family, "ours", ingest.PROCESSES): 15.0}
    *_, last, _, scope = ingest.to_markdown(one | two, clips=48, rounds=3).splitlines()
    assert last == "| `attentive_crnn`, ours | 2 processes | 15.0 | 1.88 | 2.5 |"
    assert scope == "48 clips, medians of 3 rounds."
