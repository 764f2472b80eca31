"""Run the commands of README.md and docs/quickstart.md, in order."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modules.data.labels import EMOTIONS
from tests.paths import ROOT

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN = {
    "git clone https://github.com/ser-pipeline/ser-pipeline": "needs the network; this checkout is the clone",
    "cd ser-pipeline": "the commands run in a folder with the files of the checkout",
    "sudo apt install git make g++ python3-venv": "changes the machine; tests/test_environment.py tests the set-up",
    "make run": "the same commands as the fixtures `demo_data` and `local_run` and the next lines, after the set-up",
    "make test": "runs this test",
}
OUTPUTS = {
    "ser corpus scan": r"^\d+ clips \(.* h\) of 24 speakers; 0 files cannot be used$",
    "ser predict": rf"\.wav: ({'|'.join(EMOTIONS)}), model version \d+$",
    "python runner_local.py": r"^BLESSED  Every check passed\.\nUAR      [\d.]+% \(95 % interval .*[\d.]+%\)$",
}
RECORDING = "Actor_01/03-01-05-01-01-01-01.wav"


def code_of(document: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of each command and each Python example of a document."""
    for language, text in BLOCK.findall((ROOT / document).read_text()):
        yield from ((language, line) for line in text.splitlines()) if language == "sh" else [(language, text)]


@dataclass
class Reader:
    """Someone who follows a document in a folder that `make run` has filled."""

    folder: Path
    data: Path
    environment: dict[str, str]
    prelude: str = ""
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    port: str = ""

    def follow(self, language: str, text: str) -> None:
        """Run one command or example."""
        if language == "python":
            text = text.replace("localhost:8500", f"localhost:{self.port}")
            self.run([sys.executable, "-c", text])
        elif text.startswith(". "):
            self.prelude = f"{text} && "
        elif text == "ser serve":
            self.serve(text)
        else:
            printed = self.run(["bash", "-c", self.prelude + self.with_data(text)])
            expected = next(pattern for command, pattern in OUTPUTS.items() if text.startswith(command))
            assert re.search(expected, printed, re.MULTILINE), printed

    def with_data(self, command: str) -> str:
        """Put the demo corpus in place of a folder of recordings, at the address that the cached run has."""
        return re.sub(r"(?<= )(DIR|demo)(?=[ /]|$)", str(self.data), command)

    def run(self, command: list[str]) -> str:
        finished = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr + finished.stdout
        return finished.stdout

    def serve(self, command: str) -> None:
        """Start a server on free ports, and wait until it serves."""
        server = subprocess.Popen(
            ["bash", "-c", f"{self.prelude}exec {command} --port 0 --rest-api-port 0"],
            cwd=self.folder,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.servers.append(server)
        lines = []
        for line in server.stderr or ():
            lines.append(line)
            if listening := re.search(r"gRPC on port (\d+)", line):
                self.port = listening[1]
                return
        raise AssertionError("".join(lines))


@pytest.fixture
def reader(local_run) -> Iterator[Reader]:
    """A reader whose `output/` is that of the shared run, with the settings of that run."""
    folder = local_run.root.parent
    links = {
        ".venv": Path(sys.prefix),
        "runner_local.py": ROOT / "runner_local.py",
        "recording.wav": local_run.data / RECORDING,
    }
    for name, target in links.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)
    settings = (override.split("=") for override in local_run.overrides)
    variables = {f"SER__{key.replace('.', '__').upper()}": value for key, value in settings}
    variables["SER__GATE__MAX_UAR_LOSS"] = "1"  # another test may have pushed a better model into the same folder
    reader = Reader(folder, local_run.data, os.environ | variables)
    yield reader
    for server in reader.servers:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


@pytest.mark.parametrize("document", ["README.md", "docs/quickstart.md"])
def test_commands_run_in_order(document, reader):
    for language, text in code_of(document):
        if text not in NOT_RUN:
            reader.follow(language, text)


def test_each_exception_is_in_a_document():
    written = {text for document in ("README.md", "docs/quickstart.md") for _, text in code_of(document)}
    assert set(NOT_RUN) <= written
