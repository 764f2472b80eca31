"""Wrong values for every option and argument of every command: one message and a documented exit code."""

import io
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
import typer
from hypothesis import strategies as st

import runner_local
import runner_vertex
from cli import program
from cli.exits import ExitCode
from cli.main import COMMANDS, load_command
from cli.main import app as ser
from modules.demo_corpus.corpus import write_corpus

PROGRAMS = {"ser": ser, "runner_local.py": runner_local.app, "runner_vertex.py": runner_vertex.app}
LONGEST_SEC = 60

# What else a command line needs, such that the command ends at once, whatever a wrong value does: names of things that
# are missing, a port that is taken, or a setting that is refused. A command that is not here needs nothing.
OTHERWISE = {
    "ser corpus scan": ["demo"],
    "ser corpus synth": ["--out=new", "--clips=0"],
    "ser corpus arrive": ["--reservoir=demo", "--into=spans", "--clips=0"],
    "ser corpus export": ["--out=new.parquet", "--root=missing"],
    "ser corpus verify": ["--data=missing", "--root=missing"],
    "ser corpus forget": ["Ada", "--root=missing"],
    "ser batch": ["missing", "--out=new"],
    "ser rollout prune": ["--address=localhost:1"],
    "ser evaluate": ["--data=demo", "--root=root", "--set=training.epochs=0"],
    "ser accept folds": ["--data=demo", "--root=root", "--set=training.epochs=0"],
    "ser accept model": ["--data=missing"],
    "ser runs compare": ["a", "b"],
    "ser encoder fetch": ["whisper-tiny.en", "--from=missing"],
    "ser export": ["--format=tflite", "--out=new.tflite", "--model-base-path=missing"],
    "ser adapt": ["missing"],
    "ser drift": ["missing", "missing"],
    "ser predict": ["clip.wav", "--address=::1"],
    "ser serve": ["--model-base-path=demo", "--port=TAKEN", "--rest-api-port=TAKEN"],
    "ser monitor": ["--port=TAKEN"],
    "ser ui": ["--port=TAKEN"],
    "ser rollout status": ["--address=localhost:1"],
    "ser rollout canary": ["4", "--address=localhost:1"],
    "ser rollout promote": ["--address=localhost:1"],
    "ser rollout rollback": ["--address=localhost:1"],
    "ser rollout abort": ["--address=localhost:1"],
    "ser rollout watch": ["--probe=missing", "--address=localhost:1"],
    "runner_local.py": ["--data=demo", "--root=root", "--set=training.epochs=0"],
    "runner_vertex.py compile": ["--set=training.epochs=0"],
    "runner_vertex.py submit": ["--set=training.epochs=0"],
    **{
        f"runner_vertex.py schedule {name}": ["--set=training.epochs=0"]
        for name in ("create", "update", "pause", "resume", "list")
    },
}
NOT_FILES = ["missing", "missing/below", "folder", "fifo", "socket", "dangling", "loop", "/dev/zero", "", "a" * 300]
PLACES = [
    *NOT_FILES, "empty/below", "bytes.wav", "broken.yaml", "list.yaml", "truncated", "odd [x] *\n é",
    "x/" * 3000, "-x", "\udcff", "gs:/x", "/proc/self/mem",
]  # fmt: skip
NOT_FINITE = ["nan", "inf", "-inf", "1e400", "abc", ""]
NUMBERS = ["-1", "0", "1.5", "99999", "1" + "0" * 30, *NOT_FINITE]
NAMES = [
    "[x]", "é\n", "%s{}", "=", "a.b.c", "training=1", "training={", "seed=[1",
    "training.epochs=nan", "training.epochs.x=1", "training.family=nope", f"seed=1{'0' * 30}", 'name="\\0"',
    "localhost:99999", "http://[", "http://localhost:99999", "vertex://",
    "bq://only.two",
]  # fmt: skip
WORDS = list(dict.fromkeys([*PLACES, *NUMBERS, *NAMES]))


class Door(NamedTuple):
    """An option or an argument of a command."""

    command: str
    name: str
    is_argument: bool
    is_number: bool

    def line(self, word: str) -> list[str]:
        """Return the words of a command line with a wrong value."""
        otherwise = OTHERWISE.get(self.command, [])
        if not self.is_argument:
            kept = [given for given in otherwise if given.partition("=")[0] != self.name]
            return [*kept, f"{self.name}={word}"]
        arguments = [given for given in otherwise if not given.startswith("--")]
        at = [door.name for door in DOORS if door.command == self.command and door.is_argument].index(self.name)
        arguments[at : at + 1] = [word]
        return [*(given for given in otherwise if given.startswith("--")), "--", *arguments]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    messages: list[str]
    text: str


def _commands(command, path: tuple[str, ...]) -> Iterator[tuple[str, list]]:
    below = getattr(command, "commands", None)
    if not below:
        yield " ".join(path), command.params
    for name, one in (below or {}).items():
        yield from _commands(one, (*path, name))


def _all_commands() -> dict[str, list]:
    found = dict(each for name in COMMANDS for each in _commands(load_command(name), ("ser", name)))
    for name, app in PROGRAMS.items():
        if name != "ser":
            found |= dict(_commands(typer.main.get_command(app), (name,)))
    return found


PARAMETERS = _all_commands()
DOORS = [
    Door(
        command,
        parameter.opts[0],
        is_argument=not parameter.opts[0].startswith("-"),
        is_number=isinstance(parameter.default, (int, float)) and not isinstance(parameter.default, bool),
    )
    for command, parameters in PARAMETERS.items()
    for parameter in parameters
    if not getattr(parameter, "is_flag", False)
]
FILES = ("--config", "--models-config", "--ca-file", "--model-config-file", "--batching-parameters-file",
         "--monitoring-config-file", "--from")  # fmt: skip


@pytest.fixture(scope="module")
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with something wrong of every kind."""
    made = tmp_path_factory.mktemp("wrong")
    write_corpus(made / "demo", clips=2, seed=0, workers=1)
    next((made / "demo").rglob("*.wav")).rename(made / "clip.wav")
    for name in ("folder", "odd [x] *\n é", "truncated/1", "cycle"):
        (made / name).mkdir(parents=True)
    (made / "empty").touch()
    (made / "bytes.wav").write_bytes(bytes(range(256)) * 20)
    (made / "truncated" / "1" / "saved_model.pb").write_bytes(b"\x08\x01cut")
    (made / "broken.yaml").write_text("a: [b\n c: :")
    (made / "list.yaml").write_text("- 1\n")
    (made / "dangling").symlink_to("nowhere")
    (made / "loop").symlink_to("loop")
    (made / "cycle" / "up").symlink_to("..")
    os.mkfifo(made / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(made)  # a socket's address has at most 107 bytes
        bound.bind("socket")
        os.chdir(here)
    return made


@pytest.fixture
def run(folder, taken, monkeypatch):
    """Run a command line in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SER_ENCODERS", str(folder / "encoders"))

    def end(door: Door, word: str) -> Ended:
        name, *commands = door.command.split()
        line = [given.replace("TAKEN", taken) for given in door.line(word)]
        errors = io.StringIO()
        with _within(LONGEST_SEC), redirect_stdout(io.StringIO()), redirect_stderr(errors):
            code = program.run(PROGRAMS[name], name, [*commands, *line])
        text = errors.getvalue()
        return Ended(code, re.findall(rf"^{re.escape(name)}: ", text, re.MULTILINE), text)

    return end


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"the command did not end in {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_every_command_with_a_required_value_is_here():
    required = {name for name, parameters in PARAMETERS.items() if any(each.required for each in parameters)}
    assert required - OTHERWISE.keys() == set()
    assert OTHERWISE.keys() - PARAMETERS.keys() == set()


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.command} {door.name}")
def test_a_wrong_value_ends_with_one_message_and_a_documented_code(door, run):
    for word in WORDS:
        ended = run(door, word)
        assert ended.code in (ExitCode.DONE, ExitCode.FAILED, ExitCode.REFUSED), (word, ended)
        assert len(ended.messages) == bool(ended.code), (word, ended)
        assert "Traceback" not in ended.text, (word, ended)


@pytest.mark.parametrize("word", NOT_FINITE)
def test_every_number_is_finite(word, run):
    accepted = [
        (door.command, door.name, ended)
        for door in DOORS
        if door.is_number
        for ended in [run(door, word)]
        if ended.code != ExitCode.REFUSED or not re.search(re.sub("[-_]", ".", door.name.strip("-")), ended.text)
    ]
    assert accepted == []


@pytest.mark.parametrize("word", NOT_FILES)
def test_only_a_regular_file_is_read(word, run):
    accepted = [
        (door.command, door.name, ended)
        for door in DOORS
        if door.name in FILES
        for ended in [run(door, word)]
        if ended.code != ExitCode.REFUSED or (word and word not in ended.text)
    ]
    assert accepted == []


@hypothesis.settings(max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(st.sampled_from(DOORS), st.text(st.characters(exclude_characters="\0"), max_size=40))
def test_any_text_ends_with_one_message(run, door, text):
    hypothesis.assume(not (door.command == "ser ui" and door.name == "--host"))  # an address may be one of this machine
    ended = run(door, text)
    assert len(ended.messages) == bool(ended.code)
    assert "Traceback" not in ended.text
