import collections
import hashlib
import os
from pathlib import Path

import pytest

from cli.main import main
from components.audio_example_gen.corpora import arrive, identify
from modules.common import addresses
from modules.data.labels import LabelSettings
from modules.demo_corpus import MARKER_FILE

ACTORS, EMOTIONS, REPETITIONS = 4, 8, 2
EVERYTHING = ACTORS * EMOTIONS * REPETITIONS


@pytest.fixture
def reservoir(tmp_path) -> Path:
    """Files with RAVDESS's names and different contents."""
    for actor in range(1, ACTORS + 1):
        for emotion in range(1, EMOTIONS + 1):
            for repetition in range(1, REPETITIONS + 1):
                name = f"03-01-{emotion:02d}-01-01-{repetition:02d}-{actor:02d}.wav"
                path = tmp_path / "reservoir" / f"Actor_{actor:02d}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
    return tmp_path / "reservoir"


def contents(*folders: Path) -> collections.Counter[str]:
    """Return the number of copies of each content among the files that a run reads."""
    files = [path for folder in folders for path in folder.rglob("*.wav")]
    visible = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    return collections.Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in visible)


def clips_in(folder: Path) -> list:
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    identified = identify(paths, read_text=lambda path: (folder / path).read_text(), labels=LabelSettings())
    assert not identified.rejected
    return list(identified.clips)


def arrive_into(reservoir: Path, into: Path, **options: int) -> Path:
    return Path(arrive.arrive(str(reservoir), str(into), **options))


def test_a_batch_leaves_the_reservoir_and_becomes_the_next_span(reservoir, tmp_path):
    before, into = contents(reservoir), tmp_path / "data"
    first = arrive_into(reservoir, into, clips=24)
    second = arrive_into(reservoir, into, clips=24)
    assert [first, second] == [into / "span-1", into / "span-2"]
    assert len(clips_in(first)) == len(clips_in(second)) == 24
    assert contents(reservoir, first, second) == before, "each clip is in one place"
    assert (first / "Actor_01").is_dir(), "clips keep their paths"


def test_the_batch_has_its_share_of_every_emotion_and_speaker(reservoir, tmp_path):
    clips = clips_in(arrive_into(reservoir, tmp_path / "data", clips=EVERYTHING // 2))
    by_emotion = collections.Counter(clip.emotion for clip in clips)
    assert by_emotion.pop("neutral") == ACTORS * REPETITIONS, "calm is neutral too"
    assert set(by_emotion.values()) == {ACTORS * REPETITIONS // 2}
    assert set(collections.Counter(clip.speaker for clip in clips).values()) == {EMOTIONS * REPETITIONS // 2}


def test_seeds_draw_batches(reservoir, tmp_path):
    clips = clips_in(reservoir)
    batches = [{clip.path for clip in arrive.choose(clips, 20, seed)} for seed in (0, 0, 1)]
    assert batches[0] == batches[1] != batches[2]
    assert len(batches[0]) == 20


class Killed(BaseException):
    pass


@pytest.mark.parametrize("when", ["copying", "appearing", "leaving", "having left a few"])
def test_an_interrupted_arrival_loses_no_clip(reservoir, tmp_path, monkeypatch, when):
    before, into = contents(reservoir), tmp_path / "data"
    calls = iter(range(1000))

    def interrupt(real, after: int):
        def call(*args, **kwargs):
            if next(calls) == after:
                raise Killed
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        if when == "copying":
            patch.setattr(addresses, "write_bytes", interrupt(addresses.write_bytes, 5))
        elif when == "appearing":
            patch.setattr(os, "rename", interrupt(os.rename, 0))
        elif when == "leaving":
            patch.setattr(arrive, "_leave", interrupt(arrive._leave, 0))
        else:
            patch.setattr(addresses, "remove", interrupt(addresses.remove, 7))
        with pytest.raises(Killed):
            arrive_into(reservoir, into, clips=24)
    assert contents(reservoir, into).keys() == before.keys()
    arrive_into(reservoir, into, clips=24)
    assert contents(reservoir, into) == before, "the next arrival ends the interrupted one"
    assert not [path for path in into.iterdir() if path.is_dir() and not arrive.SPAN.fullmatch(path.name)]


def test_the_marker_of_the_demo_corpus_goes_with_its_clips(reservoir, tmp_path):
    (reservoir / MARKER_FILE).write_text("{}")
    span = arrive_into(reservoir, tmp_path / "data", clips=8)
    assert {clip.corpus for clip in clips_in(span)} == {"demo"}
    assert {clip.corpus for clip in clips_in(reservoir)} == {"demo"}


def test_a_manifest_is_cut_to_the_batch(tmp_path):
    reservoir = tmp_path / "reservoir" / "mine"
    reservoir.mkdir(parents=True)
    rows = [f"{number}.wav,{emotion},ann" for number, emotion in enumerate(["sad", "angry"] * 4)]
    (reservoir / "manifest.csv").write_text("\n".join(["path,emotion,speaker", *rows]))
    for number in range(8):
        (reservoir / f"{number}.wav").write_text(str(number))
    span = arrive_into(reservoir.parent, tmp_path / "data", clips=4)
    assert collections.Counter(clip.emotion for clip in clips_in(span)) == {"sad": 2, "angry": 2}
    assert {clip.speaker for clip in clips_in(span)} == {"mine-ann"}


@pytest.mark.parametrize("clips", [0, EVERYTHING + 1])
def test_a_batch_larger_than_the_reservoir_is_refused(reservoir, tmp_path, clips):
    with pytest.raises(arrive.ReservoirTooSmall):
        arrive_into(reservoir, tmp_path / "data", clips=clips)
    assert len(clips_in(reservoir)) == EVERYTHING


def test_spans_inside_the_reservoir_are_refused(reservoir):
    with pytest.raises(arrive.CannotArrive) as error:
        arrive_into(reservoir, reservoir / "data", clips=1)
    assert str(reservoir / "data") in str(error.value)


def test_one_arrival_at_a_time(reservoir, tmp_path):
    other = arrive._LocalFolder(str(tmp_path / "data"))
    with other.locked(), pytest.raises(arrive.ArrivalUnderWay):
        arrive_into(reservoir, tmp_path / "data", clips=1)


def test_the_command_prints_the_new_span(reservoir, tmp_path, capsys):
    words = ["corpus", "arrive", "--reservoir", str(reservoir), "--into", str(tmp_path / "data"), "--clips"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "8"])
    assert not stopped.value.code
    assert "span-1: 8 clips" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main([*words, "8000"])
    assert stopped.value.code == 2
    assert "8000" in capsys.readouterr().err
