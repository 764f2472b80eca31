"""Stable codes of the project's errors, read from the source: importing every module would take a minute."""

import ast
import re
import subprocess
from collections.abc import Iterator

from tests.paths import ROOT

PACKAGES = ("cli", "components", "modules", "pipeline", "schema", "serving")
CODE_IN_EACH_INSTANCE = {"AudioError", "BadAudio"}  # an AudioCode


def classes() -> Iterator[ast.ClassDef]:
    """Yield all classes of the packages."""
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, check=True, text=True)
    for path in listed.stdout.splitlines():
        if path.endswith(".py"):
            yield from (
                node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.ClassDef)
            )


def bases(kind: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).rpartition(".")[2] for base in kind.bases]


def errors() -> dict[str, ast.ClassDef]:
    """Return the classes that derive from an exception, at any depth, by name."""
    found: dict[str, ast.ClassDef] = {}
    everything = list(classes())
    while more := {
        kind.name: kind
        for kind in everything
        if kind.name not in found
        and any(base in found or base == "Exception" or re.fullmatch(r"[A-Z]\w*Error", base) for base in bases(kind))
    }:
        found |= more
    return found


def code_of(kind: ast.ClassDef) -> str | None:
    """Return the value of ``code = "…"`` in the body of a class."""
    values = [
        node.value for node in kind.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code"
    ]
    return ast.literal_eval(values[0]) if values else None


def test_each_error_has_the_base_and_a_code_of_its_own():
    kinds = {name: kind for name, kind in errors().items() if name != "SerError"}
    assert len(kinds) >= 40
    based = {"SerError", *kinds}
    assert [name for name, kind in kinds.items() if not based & set(bases(kind))] == []
    codes = {name: code_of(kind) for name, kind in kinds.items() if name not in CODE_IN_EACH_INSTANCE}
    assert [name for name, code in codes.items() if not re.fullmatch(r"[a-z_]+\.[a-z_]+", code or "")] == []
    assert len(set(codes.values())) == len(codes)
