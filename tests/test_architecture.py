"""Holds the direction of the arrows that docs/architecture.md draws, and what must stay light to import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What code in a package may import of this project.
ALLOWED = {
    "modules": {"modules"},
    "schema": {"modules"},
    "components": {"components", "modules", "serving"},
    "pipeline": {"pipeline", "components", "modules", "schema"},
    "serving": {"serving", "modules"},
    "cli": {"cli", "serving", "pipeline", "components", "modules", "schema"},
    "runner_local": {"pipeline", "modules"},
    "runner_vertex": {"pipeline", "modules"},
}
FIRST_PARTY = set(ALLOWED) | {"tests", "benchmarks"}
ORCHESTRATION = {"tfx", "apache_beam", "kfp", "google.cloud", "ml_metadata"}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def sources(package: str) -> list[Path]:
    single = ROOT / f"{package}.py"
    return [single] if single.exists() else sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_run_one_way(package):
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imports_of(path)
        if name.split(".")[0] in FIRST_PARTY - ALLOWED[package]
    }
    assert not found


def test_modules_know_no_orchestration_and_no_cloud():
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("modules")
        for name in imports_of(path)
        if any(name == banned or name.startswith(f"{banned}.") for banned in ORCHESTRATION)
    }
    assert not found


@pytest.mark.parametrize(
    "statement",
    [
        "import cli.main",
        "import pipeline.config",
        "import serving.client",
        "import components.audio_example_gen.corpora",
    ],
)
def test_what_people_wait_for_imports_nothing_heavy(statement):
    heavy = "tensorflow", "tfx", "apache_beam", "librosa", "keras"
    code = f"import sys; {statement}; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"
