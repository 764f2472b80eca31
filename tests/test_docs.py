"""Links, tables, commands and settings in the documentation. `mkdocs build --strict` checks links between pages."""

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from cli.main import load_command
from pipeline.vertex.config import VertexConfig
from tests.paths import ROOT

GENERATED = re.compile(r"<!-- (.+?) -->\n.*?<!-- /\1 -->", re.DOTALL)
GUIDES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name != "configuration.md"),
]

TASKS = [path for path in sorted((ROOT / "docs" / "guides").rglob("*.md")) if path.name != "limits.md"]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = "|".join(VertexConfig.model_fields)
KEY = re.compile(rf"(?:`|--set '?)((?:{SECTIONS})(?:\.\w+)+)")
FILE_ENDINGS = (".json", ".py")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def written_lines(document: Path) -> Iterator[str]:
    """Yield the lines that people write: without the tables of benchmarks and long links."""
    yield from GENERATED.sub("", document.read_text()).splitlines()


@pytest.mark.parametrize("document", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_and_tables_are_narrow(document):
    assert [line for line in written_lines(document) if len(line) > 120] == []
    assert [line for line in document.read_text().splitlines() if line.startswith("| ") and line.count(" | ") > 4] == []


@pytest.mark.parametrize("guide", TASKS, ids=lambda path: path.stem)
def test_guides_start_with_code_and_show_output(guide):
    title, _, first, *_ = guide.read_text().splitlines()
    assert title.startswith("# ")
    assert first.startswith("```")
    assert "```text\n" in guide.read_text()


def ser_commands(document: Path) -> Iterator[list[str]]:
    """Yield the words of each command of ``ser`` in a document, without the first."""
    for language, block in BLOCK.findall(document.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("ser ") and language in ("", "sh"):
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("document", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_have_the_options_that_are_shown(document):
    for name, *words in ser_commands(document):
        command = load_command(name)
        while isinstance(command, typer.core.TyperGroup):
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        own = itertools.takewhile("--".__ne__, words)
        assert {word for word in own if word.startswith("--")} <= options, (name, words)


@pytest.mark.parametrize(
    "document", [path for path in GUIDES if path.name != "CHANGELOG.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_settings_that_are_named_exist(document):
    reference = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    named = {key for key in KEY.findall(document.read_text()) if not key.endswith(FILE_ENDINGS)}
    assert [key for key in sorted(named) if f"`{key}`" not in reference and f"## {key}" not in reference] == []


@pytest.mark.parametrize(
    "document", [path for path in GUIDES if ROOT / "docs" not in path.parents], ids=lambda p: p.name
)
def test_links_lead_to_files(document):
    links = re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_pages_that_code_and_messages_name_exist():
    files = tracked("*.py", "*.yaml", "*.yml", "*.tf", "*.sh", "*.config", "*.toml", "Makefile", "Dockerfile")
    named = {page for file in files for page in re.findall(r"docs/[\w/-]+\.md", file.read_text())}
    assert "docs/guides/production/operate.md" in named
    assert [page for page in sorted(named) if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "benchmarks").glob("*.md")), ids=lambda path: path.name)
def test_commands_write_into_their_own_page(page):
    text = page.read_text()
    assert set(re.findall(r"--write (\S+)", text)) == {f"docs/benchmarks/{page.name}"}
    assert GENERATED.search(text)
