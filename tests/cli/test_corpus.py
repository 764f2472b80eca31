"""``ser corpus``: exit codes and output."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import COMMANDS, main
from components.audio_example_gen.corpora.scan import scan
from modules.data.labels import LabelSettings
from tests.commands import ser


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "demo"
    with pytest.raises(SystemExit) as stopped:
        main(["corpus", "synth", "--out", str(out), "--clips", "14", "--seed", "2"])
    assert not stopped.value.code
    return out


@pytest.mark.parametrize(
    "words", [["--help"], ["corpus", "--help"], ["corpus", "scan", "--help"], ["corpus", "synth", "--help"]]
)
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys\nfrom cli.main import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras', 'librosa', 'numpy', 'soundfile'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in shown.stdout
    assert "Usage: ser" in shown.stdout


def test_help_lists_every_command_of_the_table(capsys):
    status, out, _ = ser(capsys, "--help")
    assert status == 0
    assert [name for name in COMMANDS if name not in out] == []


def test_an_unknown_command_is_a_usage_error(capsys):
    status, out, err = ser(capsys, "copus")
    assert (status, out) == (2, "")
    assert "'copus'" in err


def test_scan_prints_counts_duplicates_and_unusable_files(demo, tmp_path, capsys):
    corpus = tmp_path / "all"
    corpus.mkdir()
    (corpus / "demo").symlink_to(demo, target_is_directory=True)
    # The demo corpus's clip of that name again, outside of it: by its name a clip of RAVDESS.
    clip = next(demo.rglob("*.wav"))
    (corpus / clip.name).write_bytes(clip.read_bytes())
    long_name = f"{'long ' * 40}[red]name.wav"
    (corpus / long_name).write_bytes(b"RIFF")
    status, out, err = ser(capsys, "corpus", "scan", corpus)
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["corpus", "angry", "disgust", "fear", "happy", "neutral", "sad", "surprise", "clips", "hours"] in lines
    assert ["demo", "2", "2", "2", "2", "2", "2", "2", "14"] in [line[:9] for line in lines]
    assert ["demo-02", "female"] in [line[:2] for line in lines]
    assert f"  {clip.name} = {clip.relative_to(demo.parent).as_posix()}" in out.splitlines()
    assert f"  {long_name}: " in out
    assert "15 clips" in out
    assert "; 1 file cannot" in out


def test_scan_fits_a_terminal_of_80_columns(demo, capsys):
    _, out, _ = ser(capsys, "corpus", "scan", demo)
    rows = [line.rstrip() for line in out.splitlines() if "demo-" in line or line.startswith(" speaker")]
    assert len(rows) > 2
    assert max(map(len, rows)) <= 80


def test_scan_counts_dropped_recordings(demo, tmp_path, capsys):
    clip = next(demo.rglob("*.wav"))
    (tmp_path / "03-01-02-01-01-01-05.wav").write_bytes(clip.read_bytes())
    (tmp_path / "03-01-05-01-01-01-05.wav").write_bytes(clip.read_bytes())
    _, out, _ = ser(capsys, "corpus", "scan", tmp_path, "--set", "labels.mapping.calm=drop")
    assert "  ravdess calm: 1 clip" in out.splitlines()
    assert out.splitlines()[-1].startswith("1 clip (")


def test_scan_without_usable_files_fails_with_the_reason(tmp_path, capsys):
    (tmp_path / "hello.wav").write_bytes(b"")
    status, out, err = ser(capsys, "corpus", "scan", tmp_path)
    assert status == 2
    assert "hello.wav: " in out
    assert err.startswith(f"ser: {tmp_path} ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("speakers", "unusable", "words", "expected"),
    [
        (5, 0, [], []),
        (
            4,
            2,
            [],
            ["it would fail: 2 of 14 recordings (14.3%) are unusable; ingest.max_quarantined_share allows 5.0%"],
        ),
        (2, 0, [], ["it would fail: 2 speakers cannot fill the splits train, eval, test"]),
        (4, 0, ["--set=labels.emotions=[angry,sad]"], []),
        (4, 0, ["--set=labels.emotions=[angry,calm]"], ["it would fail: every usable recording is angry"]),
        (4, 0, ["--set=gate.min_test_speakers=5"], ["test speakers: 2, and gate.min_test_speakers is 5"]),
        (2, 0, ["--set=ingest.pattern=span-{SPAN}/*"], []),
    ],
)
def test_scan_prints_what_a_run_would_fail_of_or_warn_of(demo, tmp_path, capsys, speakers, unusable, words, expected):
    sound = next(demo.rglob("*.wav")).read_bytes()
    rows = ["path,emotion,speaker"]
    for number in range(speakers * 3):
        emotion, speaker = ("angry", "sad", "angry")[number % 3], number // 3
        (tmp_path / f"{number}.wav").write_bytes(sound[:-2] + number.to_bytes(2, "little"))
        rows.append(f"{number}.wav,{emotion},{speaker}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    for number in range(unusable):
        (tmp_path / f"{number}-empty.wav").touch()
    _, out, _ = ser(capsys, "corpus", "scan", tmp_path, *words)
    _, heading, section = out.partition("\nA run of this folder:\n")
    lines = section.partition("\n\n")[0].splitlines() if heading else []
    assert len(lines) == len(expected)
    assert all(line.startswith(f"  {start}") for line, start in zip(lines, expected, strict=True))


@pytest.mark.parametrize("command", [["corpus", "scan"], ["predict"]])
def test_a_folder_without_recordings_is_named_with_the_names_that_are_read(command, tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    status, _, err = ser(capsys, *command, tmp_path)
    assert status == 2
    assert err.startswith(f"ser: {tmp_path} holds no recording; names that end in .wav, ")
    assert err.endswith(" are read; name the folder with recordings\n")


def test_scan_in_a_locale_of_ascii_says_what_reads_names_in_utf8(demo, tmp_path):
    clip = next(demo.rglob("*.wav"))
    (tmp_path / "ü.wav").write_bytes(clip.read_bytes())
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = "from cli.main import main; main()"
    command = [sys.executable, "-c", code, "corpus", "scan", tmp_path]
    scanned = subprocess.run(command, capture_output=True, text=True, env=os.environ | ascii_only, check=False)
    assert "  ?.wav: its name is UTF-8, and the encoding of the locale is not; set PYTHONUTF8=1" in scanned.stdout


def test_scan_prints_a_reason_of_several_files_once(tmp_path, capsys):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    _, out, _ = ser(capsys, "corpus", "scan", tmp_path)
    lines = out.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("  2 files: its name follows no known corpus"))
    assert lines[start + 1 : start + 3] == ["    a.wav", "    b.wav"]
    assert out.count("no known corpus") == 1


def test_scan_of_a_missing_folder_is_one_line(tmp_path, capsys):
    status, out, err = ser(capsys, "corpus", "scan", tmp_path / "none")
    assert (status, out) == (2, "")
    assert str(tmp_path / "none") in err
    assert err.count("\n") == 1


def test_synth_keeps_its_corpus_and_refuses_another_folder(demo, tmp_path, capsys):
    status, out, _ = ser(capsys, "corpus", "synth", "--out", demo, "--clips", 14, "--seed", 2)
    assert (status, out) == (0, f"{demo}: 14 synthetic clips, already there\n")
    (tmp_path / "thesis.txt").write_text("precious")
    status, _, err = ser(capsys, "corpus", "synth", "--out", tmp_path)
    assert status == 2
    assert err.startswith("ser: ")
    assert err.count("\n") == 1
    assert "thesis.txt" in err


def test_synth_refuses_impossible_numbers_in_one_line(tmp_path, capsys):
    status, _, err = ser(capsys, "corpus", "synth", "--out", tmp_path / "demo", "--clips", 0)
    assert (status, err.count("\n")) == (2, 1)
    assert "clips is 0" in err


def test_verify_names_what_differs_from_the_recordings_of_a_run(demo, tmp_path, capsys):
    examples, data = tmp_path / "examples", tmp_path / "data"
    examples.mkdir()
    shutil.copytree(demo, data)
    lines = [
        dataclasses.asdict(sound.clip) | {"sha256": hashlib.sha256((demo / sound.clip.path).read_bytes()).hexdigest()}
        for sound in scan(str(demo)).sounds
    ]
    (examples / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (examples / "ingest.json").write_text(json.dumps({"root": str(demo), "labels": LabelSettings().model_dump()}))
    assert ser(capsys, "corpus", "verify", "--examples", examples)[0] == 0
    assert ser(capsys, "corpus", "verify", "--examples", examples, "--data", data)[0] == 0
    missing = next(data.rglob("*.wav"))
    missing.unlink()
    status, out, _ = ser(capsys, "corpus", "verify", "--examples", examples, "--data", data)
    assert status == 3
    assert f"  {missing.relative_to(data).as_posix()}" in out.splitlines()
    assert ser(capsys, "corpus", "verify", "--root", tmp_path)[0] == 2
