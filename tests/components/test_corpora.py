"""Identification of recordings by name, and scans of their sound."""

import collections
import contextlib
import csv
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from components.audio_example_gen.corpora import Identified, Rejected, identify, manifest, tables
from components.audio_example_gen.corpora.adapter import OTHER_ENCODING, Tree
from components.audio_example_gen.corpora.scan import scan
from modules.audio import containers
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS, LabelSettings
from modules.demo_corpus import MARKER_FILE
from tests.paths import CORPORA, needs_corpora


def identify_names(*names: str, texts: dict[str, str] | None = None, **labels: Any) -> Identified:
    """Identify files of these names, of which some hold text."""
    texts = texts or {}
    return identify([*names, *texts], read_text=texts.__getitem__, labels=LabelSettings(**labels))


def only(identified: Identified) -> Clip:
    assert not identified.rejected
    (clip,) = identified.clips
    return clip


def reason(identified: Identified) -> str:
    assert not identified.clips
    (rejected,) = identified.rejected
    return rejected.reason


DEMOGRAPHICS = '"ActorID","Age","Sex","Race"\n1001,51,"Male","Caucasian"\n1002,21,"Female","Caucasian"\n'

NAMED = [
    ("Actor_12/03-01-06-02-02-01-12.wav", "ravdess", "fear", "ravdess-12", "female", "strong"),
    ("Actor_01/03-01-02-01-01-01-01.flac", "ravdess", "neutral", "ravdess-01", "male", "normal"),
    ("Actor_24/03-01-08-01-01-02-24.WAV", "ravdess", "surprise", "ravdess-24", "female", "normal"),
    ("Actor_07/03-01-07-02-01-01-07.wav", "ravdess", "disgust", "ravdess-07", "male", "strong"),
    ("03-01-05-01-01-01-03.wav", "ravdess", "angry", "ravdess-03", "male", "normal"),
    ("a/b/c/03-01-04-01-01-01-04.wav", "ravdess", "sad", "ravdess-04", "female", "normal"),
    ("AudioWAV/1001_DFA_ANG_XX.wav", "crema-d", "angry", "crema-d-1001", "unknown", "unspecified"),
    ("AudioWAV/1002_IEO_HAP_LO.wav", "crema-d", "happy", "crema-d-1002", "unknown", "low"),
    ("AudioWAV/1002_IEO_FEA_MD.wav", "crema-d", "fear", "crema-d-1002", "unknown", "normal"),
    ("AudioWAV/1002_IEO_DIS_HI.wav", "crema-d", "disgust", "crema-d-1002", "unknown", "strong"),
    ("AudioWAV/1040_ITH_SAD_X.wav", "crema-d", "sad", "crema-d-1040", "unknown", "unspecified"),
    ("TESS/OAF_Fear/OAF_goose_fear.wav", "tess", "fear", "tess-OAF", "female", "unspecified"),
    ("TESS/YAF_pleasant_surprised/YAF_tape_ps.wav", "tess", "surprise", "tess-YAF", "female", "unspecified"),
    ("TESS/OAF_neutral/OA_bite_neutral.wav", "tess", "neutral", "tess-OAF", "female", "unspecified"),
    ("AudioData/DC/a01.wav", "savee", "angry", "savee-DC", "male", "unspecified"),
    ("AudioData/KL/sa15.wav", "savee", "sad", "savee-KL", "male", "unspecified"),
    ("ALL/JE_su02.wav", "savee", "surprise", "savee-JE", "male", "unspecified"),
    ("ALL/JK_n30.wav", "savee", "neutral", "savee-JK", "male", "unspecified"),
    ("wav/03a01Fa.wav", "emodb", "happy", "emodb-03", "male", "unspecified"),
    ("wav/16b10Wb.wav", "emodb", "angry", "emodb-16", "female", "unspecified"),
    ("wav/08a02Ac.wav", "emodb", "fear", "emodb-08", "female", "unspecified"),
    ("wav/15b03Ed.wav", "emodb", "disgust", "emodb-15", "male", "unspecified"),
    ("wav/09a05Ta.wav", "emodb", "sad", "emodb-09", "female", "unspecified"),
    ("wav/10a07Nb.wav", "emodb", "neutral", "emodb-10", "male", "unspecified"),
]


@pytest.mark.parametrize(("path", "corpus", "emotion", "speaker", "sex", "intensity"), NAMED)
def test_names_of_published_corpora(path, corpus, emotion, speaker, sex, intensity):
    expected = Clip(path=path, corpus=corpus, emotion=emotion, speaker=speaker, sex=sex, intensity=intensity)
    assert only(identify_names(path)) == expected


@needs_corpora
def test_every_published_name():
    with (CORPORA / "names.csv").open(encoding="utf-8", newline="") as file:
        rows = {f"{row['corpus']}/{row['path']}": row for row in csv.DictReader(file)}
    demographics = (CORPORA / "crema-d-demographics.csv").read_text(encoding="utf-8")
    identified = identify_names(*rows, texts={"crema-d/VideoDemographics.csv": demographics})
    assert not identified.rejected
    assert not identified.dropped
    assert {clip.path: (clip.corpus, clip.emotion) for clip in identified.clips} == {
        path: (row["corpus"], row["emotion"]) for path, row in rows.items()
    }
    assert len(identified.clips) == 12_162
    sexes = collections.Counter((clip.corpus, clip.sex) for clip in identified.clips)
    assert sexes == {
        ("ravdess", "male"): 720,
        ("ravdess", "female"): 720,
        ("crema-d", "male"): 3930,
        ("crema-d", "female"): 3512,
        ("tess", "female"): 2800,
        ("savee", "male"): 480,
    }
    speakers = collections.Counter(speaker.rsplit("-", 1)[0] for speaker in {clip.speaker for clip in identified.clips})
    assert speakers == {"ravdess": 24, "crema-d": 91, "tess": 2, "savee": 4}
    intensities = collections.Counter(clip.intensity for clip in identified.clips if clip.corpus == "ravdess")
    assert intensities == {"normal": 768, "strong": 672}


def test_clips_are_sorted_whatever_the_order_of_the_listing():
    paths = [path for path, *_ in NAMED]
    assert identify_names(*paths) == identify_names(*reversed(paths))
    ids = [clip.clip_id for clip in identify_names(*paths).clips]
    assert ids == sorted(ids)


@pytest.mark.parametrize("folder", ["crema-d", "crema-d/AudioWAV", "."])
def test_sexes_of_crema_d_stand_beside_the_audio_or_above(folder):
    table = "VideoDemographics.csv" if folder == "." else f"{folder}/VideoDemographics.csv"
    names = [f"crema-d/AudioWAV/{actor}_DFA_ANG_XX.wav" for actor in (1001, 1002, 1003)]
    identified = identify_names(*names, texts={table: DEMOGRAPHICS})
    assert [clip.sex for clip in identified.clips] == ["male", "female", "unknown"]


def test_sexes_of_crema_d_are_not_taken_from_another_folder():
    identified = identify_names("crema-d/1001_DFA_ANG_XX.wav", texts={"else/VideoDemographics.csv": DEMOGRAPHICS})
    assert only(identified).sex == "unknown"


def test_the_table_of_sexes_is_read_as_spreadsheet_programs_write_it():
    table = "sep=;\n" + DEMOGRAPHICS.replace(",", ";")
    clip = only(identify_names("AudioWAV/1001_DFA_ANG_XX.wav", texts={"videodemographics.CSV": table}))
    assert clip.sex == "male"


def test_an_unreadable_side_file_is_reported_and_stops_nothing():
    def refuse(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    paths = ["1001_DFA_ANG_XX.wav", "VideoDemographics.csv", "own/manifest.csv", "own/a.wav"]
    identified = identify(paths, read_text=refuse, labels=LabelSettings())
    assert [clip.sex for clip in identified.clips] == ["unknown"]
    assert [rejected.path for rejected in identified.rejected] == [
        "VideoDemographics.csv",
        "own/a.wav",
        "own/manifest.csv",
    ]
    assert "Permission denied" in identified.rejected[0].reason  # the message of the file system


def test_calm_is_neutral_or_dropped_and_counted():
    name = "Actor_01/03-01-02-01-01-01-01.wav"
    assert only(identify_names(name)).emotion == "neutral"
    dropped = identify_names(name, mapping={"calm": "drop"})
    assert (dropped.clips, dropped.rejected, dropped.dropped) == ((), (), {"ravdess calm": 1})


@pytest.mark.parametrize(
    ("labels", "emotions", "dropped"),
    [
        ({"emotions": (*EMOTIONS, "calm")}, ["calm", "angry", "happy"], {"emodb boredom": 1}),
        (
            {"emotions": ("angry", "happy", "neutral", "sad")},
            ["neutral", "angry", "happy"],
            {"emodb boredom": 1},
        ),
        (
            {"emotions": ("angry", "other"), "mapping": {"happy": "other", "boredom": "other"}},
            ["angry", "other", "other"],
            {"ravdess calm": 1},
        ),
    ],
)
def test_labels_follow_the_label_set(labels, emotions, dropped):
    names = ("03-01-02-01-01-01-01.wav", "1001_DFA_ANG_XX.wav", "DC/h01.wav", "wav/03a01La.wav")
    identified = identify_names(*names, **labels)
    by_path = {clip.path: clip.emotion for clip in identified.clips}
    assert ([by_path[name] for name in names if name in by_path], identified.dropped) == (emotions, dropped)


def test_a_manifest_may_have_own_words_that_the_label_set_knows():
    manifest = "path,emotion,speaker\na.wav,frustrated,1\nb.wav,Pleased,1\nc.wav,sad,2\nd.wav,puzzled,2\n"
    identified = identify_names(
        *("own/a.wav", "own/b.wav", "own/c.wav", "own/d.wav"),
        texts={"own/manifest.csv": manifest},
        emotions=("frustrated", "content"),
        mapping={"pleased": "content"},
    )
    assert [(clip.path, clip.emotion) for clip in identified.clips] == [
        ("own/a.wav", "frustrated"),
        ("own/b.wav", "content"),
    ]
    assert identified.dropped == {"own sad": 1}
    assert [file.path for file in identified.rejected] == ["own/d.wav"]


def test_song_and_boredom_are_dropped_and_counted():
    identified = identify_names("03-02-05-01-01-01-03.wav", "03-02-05-01-01-02-03.wav", "wav/03a01La.wav")
    assert (identified.clips, identified.rejected) == ((), ())
    assert identified.dropped == {"ravdess song": 2, "emodb boredom": 1}


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("01-01-05-01-01-01-03.wav", "modality is '01'; known: 03"),
        ("03-03-05-01-01-01-03.wav", "channel is '03'"),
        ("03-01-09-01-01-01-03.wav", "emotion is '09'; known: 01, 02"),
        ("03-01-05-03-01-01-03.wav", "intensity is '03'; known: 01, 02"),
        ("03-01-05-01-01-01-25.wav", "actor is '25'; known: 01 to 24"),
        ("1001_DFA_JOY_XX.wav", "emotion is 'JOY'; known: ANG"),
        ("1001_DFA_HAP_ZZ.wav", "intensity is 'ZZ'; known: LO"),
        ("03a01Xa.wav", "emotion is 'X'; known: W"),
        ("07a01Fa.wav", "speaker is '07'; known: 03"),
        ("hello.wav", "no known corpus"),
        ("DC/extra/a01.wav", "no known corpus"),
        ("XX/a01.wav", "no known corpus"),
        ("OAF_back_bored.wav", "no known corpus"),
        ("03-01-05-01-01-01.wav", "no known corpus"),
        ("talk.mp3", "no known corpus"),
        ("d/bad\udcff.wav", "not UTF-8"),
    ],
)
def test_sound_that_cannot_be_named_is_rejected_with_a_reason(path, seen):
    assert seen in reason(identify_names(path))


def test_an_unknown_name_is_rejected_with_the_layouts():
    text = reason(identify_names("hello.wav"))
    assert all(
        word in text for word in ("ravdess", "crema-d", "tess", "savee", "emodb", "manifest.csv", "path,emotion")
    )


def test_files_that_are_not_sound_are_ignored():
    identified = identify_names(
        *("README.md", "names.csv", ".hidden.wav", ".git/a.wav", "__MACOSX/Actor_01/._03.wav", "a.mp4", "wav"),
        *("@eaDir/a.wav", "d/#recycle/a.wav", "#snapshot/d/a.wav", "$RECYCLE.BIN/a.wav"),
    )
    assert identified == Identified(clips=(), rejected=(), dropped={})


def test_the_same_stem_in_two_formats_is_two_clips():
    identified = identify_names("03-01-05-01-01-01-03.wav", "03-01-05-01-01-01-03.flac")
    assert len({clip.clip_id for clip in identified.clips}) == 2


def test_compressed_recordings_are_read():
    identified = identify_names("03-01-05-01-01-01-03.mp3", "03-01-05-01-01-02-03.opus")
    assert [clip.emotion for clip in identified.clips] == ["angry", "angry"]


def test_another_encoding_of_a_recording_is_passed_over_and_counted():
    name = "1001_DFA_ANG_XX"
    identified = identify_names(f"AudioMP3/{name}.mp3", f"AudioWAV/{name}.wav", "AudioMP3/1002_DFA_ANG_XX.mp3")
    assert [clip.path for clip in identified.clips] == ["AudioMP3/1002_DFA_ANG_XX.mp3", f"AudioWAV/{name}.wav"]
    assert identified.rejected == ()
    assert identified.dropped == {OTHER_ENCODING: 1}


def test_the_same_stem_of_two_speakers_is_two_recordings():
    text = "path,emotion,speaker\nann/01.wav,sad,ann\nbob/01.mp3,sad,bob\n"
    assert len(identify_names("ann/01.wav", "bob/01.mp3", texts={"manifest.csv": text}).clips) == 2


def test_a_format_that_cannot_be_read_is_rejected(monkeypatch):
    monkeypatch.setattr(containers, "can_read", lambda: False)
    assert "pip install av" in reason(identify_names("03-01-05-01-01-01-03.m4a"))


def test_the_demo_corpus_is_not_called_ravdess():
    name = "Actor_07/03-01-05-02-01-01-07.wav"
    clips = identify_names(f"demo/{name}", f"real/{name}", texts={f"demo/{MARKER_FILE}": "{}"}).clips
    assert [(clip.corpus, clip.speaker, clip.sex) for clip in clips] == [
        ("demo", "demo-07", "male"),
        ("ravdess", "ravdess-07", "male"),
    ]
    assert only(identify_names(name, texts={MARKER_FILE: "{}"})).corpus == "demo"


HEAD = "path,emotion,speaker,sex,intensity\n"


def test_a_manifest_identifies_the_files_it_lists():
    text = "\ufeff" + HEAD + "one.wav,Happy,ann, Female ,strong\nsub/03-01-05-01-01-01-03.flac,sad,bob,,\n\n"
    identified = identify_names(
        "My Calls/one.wav", "My Calls/sub/03-01-05-01-01-01-03.flac", texts={"My Calls/manifest.csv": text}
    )
    assert identified.rejected == ()
    first, second = identified.clips
    assert first == Clip(
        path="My Calls/one.wav",
        corpus="my-calls",
        emotion="happy",
        speaker="my-calls-ann",
        sex="female",
        intensity="strong",
    )
    assert (second.corpus, second.emotion, second.speaker) == ("my-calls", "sad", "my-calls-bob")
    assert (second.sex, second.intensity) == ("unknown", "unspecified")


def test_a_manifest_needs_three_columns_in_any_order():
    clip = only(identify_names("one.wav", texts={"manifest.csv": "Speaker, path ,emotion,note\n1,one.wav,calm,x\n"}))
    assert (clip.corpus, clip.speaker, clip.emotion) == ("own", "own-1", "neutral")


def test_manifests_may_have_quoted_commas_and_any_unicode_form():
    text = 'path,emotion,speaker\n"a, b.wav",sad,1\nM\u00e4rz.wav,sad,1\n'
    identified = identify_names("d/a, b.wav", "d/Ma\u0308rz.wav", texts={"d/manifest.csv": text})
    assert not identified.rejected
    assert {clip.path for clip in identified.clips} == {"d/a, b.wav", "d/Ma\u0308rz.wav"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("first", "separator"), [("", ","), ("", ";"), ("", "\t"), ("sep=;", ";"), ('"sep=,"', ","), ("SEP=|", "|")]
)
def test_a_manifest_is_read_as_spreadsheet_programs_write_it(first, separator, end):
    above = first + end if first else ""
    rows = [["path", "emotion", "speaker", ""], ["sub\\one.wav", "sad", '"a\nb"', ""], ["two.wav", "sad", "c", ""]]
    text = above + "".join(separator.join(row) + end for row in [*rows, ["", "", "", ""], ["", "", "", ""]])
    identified = identify_names("sub/one.wav", "two.wav", texts={"manifest.csv": text})
    assert not identified.rejected
    assert [(clip.path, clip.speaker) for clip in identified.clips] == [
        ("sub/one.wav", "own-a\nb"),
        ("two.wav", "own-c"),
    ]
    lines = [separator.join(row) + end for row in rows]
    tree = Tree(["manifest.csv"], read_text=lambda _: text)
    (kept,) = manifest.lines_by_manifest(tree, lambda row: row.speaker == "own-a\nb").values()
    assert tables.select(text, kept.__contains__) == above + lines[0] + lines[1]


def test_the_line_of_a_fault_counts_the_one_that_names_the_separator():
    text = "sep=;\npath;emotion;speaker\none.wav;sadd;ann\n"
    assert "manifest.csv line 3" in reason(identify_names("one.wav", texts={"manifest.csv": text}))


@pytest.mark.parametrize("name", ["Manifest.csv", "MANIFEST.CSV"])
def test_capitals_in_the_name_of_a_manifest_do_not_matter(name):
    assert only(identify_names("d/one.wav", texts={f"d/{name}": "path,emotion,speaker\none.wav,sad,1\n"})).corpus == "d"


def test_a_manifest_in_another_encoding_is_named_with_the_remedy():
    def read_text(path: str) -> str:
        return "path,emotion,speaker\none.wav,sad,Zoë\n".encode("cp1252").decode()

    identified = identify(["manifest.csv"], read_text=read_text, labels=LabelSettings())
    assert reason(identified) == "cannot be read: it is not text in UTF-8; save it again, as CSV in UTF-8"


@pytest.mark.parametrize(
    ("row", "path", "reason"),
    [
        ("one.wav,glad,ann,,", "d/one.wav", "line 2: emotion is 'glad'; known: angry, disgust"),
        ("one.wav,sad,,,", "d/one.wav", "line 2: speaker is empty"),
        ("one.wav,sad,ann,woman,", "d/one.wav", "line 2: sex is 'woman'; known: female, male, unknown"),
        ("one.wav,sad,ann,,loud", "d/one.wav", "line 2: intensity is 'loud'; known: low, normal"),
        ("gone.wav,sad,ann,,", "d/gone.wav", "line 2: "),
        ("../../up.wav,sad,ann,,", "../up.wav", "line 2: path"),
        ("/abs.wav,sad,ann,,", "/abs.wav", "line 2: path"),
        ("notes.txt,sad,ann,,", "d/notes.txt", "line 2: "),
        (",sad,ann,,", "d", "line 2: path"),
        ("a,b.wav,sad,ann,,", "d/manifest.csv", "line 2: 6"),
    ],
)
def test_a_wrong_row_is_rejected_with_its_line(row, path, reason):
    names = ("d/one.wav", "d/two.wav", "d/notes.txt")
    identified = identify_names(*names, texts={"d/manifest.csv": f"{HEAD}{row}\ntwo.wav,sad,ann,,\n"})
    assert [clip.path for clip in identified.clips] == ["d/two.wav"]
    rejected = [file for file in identified.rejected if "line 2: " in file.reason]
    assert [file.path for file in rejected] == [path]
    assert reason in rejected[0].reason


@pytest.mark.parametrize(
    "text", ["", "file;emotion;speaker\n", "path,emotion\none.wav,sad\n", "path,emotion,speaker,Emotion\n"]
)
def test_a_manifest_without_its_columns_is_rejected(text):
    identified = identify_names(texts={"d/manifest.csv": text})
    assert "path,emotion,speaker[,sex,intensity]" in reason(identified)


def test_the_nearest_manifest_and_its_first_row_win():
    texts = {
        "manifest.csv": "path,emotion,speaker\nd/one.wav,angry,far\n",
        "d/manifest.csv": "path,emotion,speaker\none.wav,sad,near\n./one.wav,happy,later\n",
    }
    identified = identify_names("d/one.wav", texts=texts)
    assert [(clip.emotion, clip.speaker) for clip in identified.clips] == [("sad", "d-near")]
    assert [(file.path, file.reason.partition(":")[0]) for file in identified.rejected] == [
        ("d/manifest.csv", "line 3"),
        ("manifest.csv", "line 2"),
    ]
    assert all(file.reason.endswith("d/manifest.csv line 2") for file in identified.rejected)


def test_two_folders_of_one_name_are_two_corpora():
    texts = {f"{folder}/calls/manifest.csv": "path,emotion,speaker\none.wav,sad,1\n" for folder in "ab"}
    identified = identify_names("a/calls/one.wav", "b/calls/one.wav", texts=texts)
    assert [clip.speaker for clip in identified.clips] == ["a-calls-1", "b-calls-1"]


def write_tone(path: Path, *, pitch_hz: float = 220, rate_hz: int = 16_000, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time_sec = np.arange(int(rate_hz * seconds)) / rate_hz
    # As integers: libsndfile rounds numbers with a point differently for WAV and for FLAC.
    soundfile.write(path, (16_000 * np.sin(2 * np.pi * pitch_hz * time_sec)).astype(np.int16), rate_hz)


def test_scan_sets_aside_a_sound_with_two_labels(tmp_path):
    write_tone(tmp_path / "r/03-01-05-01-01-01-03.wav")
    write_tone(tmp_path / "r/03-01-04-01-01-02-03.flac")
    write_tone(tmp_path / "r/03-01-05-01-02-01-03.wav", pitch_hz=330)
    report = scan(str(tmp_path))
    assert [sound.clip.path for sound in report.sounds] == ["r/03-01-05-01-02-01-03.wav"]
    assert [file.path for file in report.rejected] == ["r/03-01-04-01-01-02-03.flac", "r/03-01-05-01-01-01-03.wav"]
    assert all("angry" in file.reason and "sad" in file.reason for file in report.rejected)


def test_scan_finds_usable_and_duplicate_sounds(tmp_path):
    write_tone(tmp_path / "r/03-01-05-01-01-01-03.wav")
    write_tone(tmp_path / "r/03-01-05-01-01-02-03.flac")
    write_tone(tmp_path / "r/03-01-05-01-02-01-03.wav", pitch_hz=330)
    write_tone(tmp_path / "DC/a01.wav", rate_hz=8_000)
    calls = []
    report = scan(str(tmp_path), progress=lambda done, total: calls.append((done, total)))
    assert [sound.clip.clip_id for sound in report.sounds] == [
        "ravdess/r/03-01-05-01-01-01-03.wav",
        "ravdess/r/03-01-05-01-01-02-03.flac",
        "ravdess/r/03-01-05-01-02-01-03.wav",
        "savee/DC/a01.wav",
    ]
    assert report.duplicates == (("r/03-01-05-01-01-01-03.wav", "r/03-01-05-01-01-02-03.flac"),)
    assert [sound.duration_sec for sound in report.sounds] == pytest.approx([0.5] * 4)
    assert report.sounds[3].sample_rate_hz == 8_000
    assert calls[-1] == (4, 4)


def test_scan_reports_unusable_files(tmp_path):
    write_tone(tmp_path / "03-01-05-01-01-01-03.wav")
    (tmp_path / "03-01-05-01-01-02-03.wav").write_text("no sound")
    (tmp_path / "03-01-05-01-02-01-03.wav").write_bytes(b"")
    (tmp_path / "x.wav").mkdir()
    write_tone(tmp_path / "x.wav" / "03-01-06-01-01-01-03.wav", pitch_hz=330)
    (tmp_path / "03-01-05-01-02-02-03.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00")
    report = scan(str(tmp_path))
    assert [sound.clip.emotion for sound in report.sounds] == ["angry", "fear"]
    reasons = {file.path: file.reason for file in report.rejected}
    assert reasons.keys() == {
        "03-01-05-01-01-02-03.wav",
        "03-01-05-01-02-01-03.wav",
        "03-01-05-01-02-02-03.wav",
        "manifest.csv",
        "pipe.wav",
        "x.wav",
    }
    assert reasons["03-01-05-01-01-02-03.wav"].startswith("AUDIO_UNREADABLE: ")
    assert reasons["03-01-05-01-02-01-03.wav"].startswith("AUDIO_EMPTY: ")
    assert reasons["03-01-05-01-02-02-03.wav"] == "a broken link"
    assert reasons["x.wav"] == "a folder, not a sound file"
    assert reasons["pipe.wav"] == "not a regular file"
    assert "cannot be read" in reasons["manifest.csv"]


@contextlib.contextmanager
def no_privileges() -> Iterator[None]:
    """Run as another user for a while, since permissions do not bind root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_scan_reports_unreadable_files():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        root = Path(name)
        root.chmod(0o755)
        write_tone(root / "03-01-05-01-01-01-03.wav")
        write_tone(root / "03-01-05-01-01-02-03.wav")
        write_tone(root / "closed" / "03-01-05-01-02-01-03.wav")
        (root / "03-01-05-01-01-02-03.wav").chmod(0)
        (root / "closed").chmod(0)
        try:
            with no_privileges():
                report = scan(str(root))
        finally:
            (root / "closed").chmod(0o755)
    assert [sound.clip.path for sound in report.sounds] == ["03-01-05-01-01-01-03.wav"]
    assert report.rejected == (
        Rejected("03-01-05-01-01-02-03.wav", "cannot be read: Permission denied"),
        Rejected("closed", "cannot be read: Permission denied"),
    )


def test_scan_follows_a_link_to_a_corpus_elsewhere(tmp_path):
    write_tone(tmp_path / "elsewhere/DC/a01.wav")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/savee").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (sound,) = scan(str(tmp_path / "root")).sounds
    assert sound.clip.clip_id == "savee/savee/DC/a01.wav"


@needs_corpora
def test_scan_of_real_recordings_finds_the_known_duplicate():
    report = scan(str(CORPORA / "ravdess" / "Actor_07"))
    assert report.rejected == ()
    assert report.duplicates == (("03-01-03-01-02-01-07.flac", "03-01-03-01-02-02-07.flac"),)
    assert collections.Counter(sound.clip.emotion for sound in report.sounds) == {
        emotion: 12 if emotion == "neutral" else 8 for emotion in EMOTIONS
    }
