"""The look that ``ser`` and both runners share: help, version, suggestions, completion, exit codes."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

from cli.exits import ExitCode
from cli.main import COMMANDS
from tests.paths import ROOT

SER = [sys.executable, "-c", "from cli.main import main; main()"]
PROGRAMS = {"ser": SER, "local": [sys.executable, "runner_local.py"], "vertex": [sys.executable, "runner_vertex.py"]}


def run(program: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run(
        [*PROGRAMS[program], *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_short_help_and_version(program):
    shown = run(program, "-h")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == run(program, "--help").stdout
    assert run(program, "--version").stdout.strip() == metadata.version("ser-pipeline")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_short_help(command):
    assert f"Usage: ser {command}" in run("ser", command, "-h").stdout


@pytest.mark.parametrize(
    ("program", "words", "suggested"),
    [
        ("ser", ["corpse"], "corpus"),
        ("ser", ["corpus", "scna"], "scan"),
        ("ser", ["predict", "--adress", "a:1"], "--address"),
        ("ser", ["config", "show", "--set", "training.epoch=3"], "training.epochs"),
        ("ser", ["config", "show", "--set", "epochs=3"], "training.epochs"),
        ("local", ["--dat", "x"], "--data"),
        ("local", ["--data", "docs", "--set", "trianing.epochs=3"], "training"),
        ("vertex", ["schedul"], "schedule"),
        ("vertex", ["schedule", "creat"], "create"),
    ],
)
def test_a_misspelt_name_gets_a_suggestion(program, words, suggested):
    refused = run(program, *words)
    assert (refused.returncode, refused.stdout) == (ExitCode.REFUSED, "")
    assert suggested in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("words", [["predict", "-"], ["predict", "nope.wav"]])
def test_closed_streams_are_those_of_the_null_device(words):
    command = ["/bin/sh", "-c", 'exec "$@" <&- 2>&-', "sh", *SER, *words]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (ExitCode.REFUSED, "")
    command[2] = 'exec "$@" <&- >&-'
    finished = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    assert finished.returncode == ExitCode.REFUSED
    assert finished.stderr.startswith("ser: ")


@pytest.fixture(params=["pipe", "disk"])
def closed(request):
    """Return what cannot be written: a pipe without a reader, and a full disk."""
    if request.param == "disk":
        with open("/dev/full", "w") as full:
            yield request.param, full
        return
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        yield request.param, pipe


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["config", "show"], ["predict", "--csv", "-"]])
def test_an_output_that_cannot_be_written_is_an_error(words, unbuffered, closed):
    kind, file = closed
    finished = subprocess.run(
        [*SER, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    messages = [line for line in finished.stderr.splitlines() if "AUDIO_EMPTY" not in line]
    if kind == "pipe":
        assert (finished.returncode, messages) == (ExitCode.CLOSED, [])
    else:
        assert finished.returncode == ExitCode.FAILED
        assert messages == ["ser: No space left on device; free space there, or write to another disk"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_messages_that_cannot_be_written_change_neither_answers_nor_the_exit_code(unbuffered, closed):
    finished = subprocess.run(
        [*SER, "predict", "--json", "nope.wav", "none.wav"],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=closed[1],
        text=True,
        check=False,
    )
    assert finished.returncode == ExitCode.REFUSED
    assert [json.loads(line)["file"] for line in finished.stdout.splitlines()] == ["nope.wav", "none.wav"]


def test_standard_output_of_ascii_takes_any_text():
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = "from cli import program; print(program.run(lambda **_: print('\\u2588 \\udcff'), 'ser'))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, env=os.environ | ascii_only)
    assert (printed.stdout, printed.stderr) == (b"? \xff\n0\n", b"")


def test_a_choice_that_is_not_there_is_refused_with_those_that_are():
    shown = run("ser", "config", "show", "--format", "xml").stderr
    assert shown.startswith("ser: Invalid value for '--format': 'xml' is not one of 'yaml', 'json', 'markdown'.")


@pytest.mark.parametrize(
    ("option", "value"), [("--channel", "0"), ("--channel", "left"), ("--version", "0"), ("--timeout-sec", "-1")]
)
def test_a_value_that_is_not_allowed_is_shown(option, value):
    shown = run("ser", "predict", "a.wav", option, value).stderr
    assert shown.startswith(f"ser: Invalid value for '{option}': '{value}' should be ")


@pytest.mark.parametrize("program", PROGRAMS)
def test_errors_begin_with_the_program(program):
    name = "ser" if program == "ser" else f"runner_{program}.py"
    assert run(program, "--nope").stderr.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [("ser cor", "corpus"), ("ser corpus s", "scan"), ("ser config show --set training.ep", "training.epochs=")],
)
def test_the_shell_completes_commands_and_keys(words, expected):
    completed = run(
        "ser", _SER_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
    ).stdout.split()
    assert expected in completed
    assert all(word.startswith(words.split()[-1]) for word in completed)


def test_the_documented_exit_codes_are_those_of_the_program():
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    documented = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    assert documented == [(str(code.value), code.meaning) for code in ExitCode]
