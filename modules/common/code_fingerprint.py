"""Fingerprints of code: a stored result is reused only while the same code would make it."""

import ast
import functools
import hashlib
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

_PACKAGES = ("benchmarks", "cli", "components", "modules", "pipeline", "schema", "serving")

_ROOT = Path(__file__).resolve().parents[2]

_distributions = functools.cache(metadata.packages_distributions)


@functools.cache
def code_fingerprint(*modules: str) -> str:
    """Return a SHA-256 of the code of modules, of what they import from this project and of versions of libraries.

    Comments and layout do not count.

    Args:
        *modules: Dotted names of modules or packages of this project.

    Raises:
        ModuleNotFoundError: This project does not have such a module.
    """
    content = hashlib.sha256()
    trees, libraries = _reached(modules)
    for name, tree in sorted(trees.items()):
        content.update(f"{name} {ast.dump(tree)}\n".encode())
    content.update(repr(sorted(_versions(libraries))).encode())
    return content.hexdigest()


def is_module(name: str) -> bool:
    """Return whether a dotted name is that of a module or a package of this project."""
    return name.partition(".")[0] in _PACKAGES and _file_of(name) is not None


def _reached(modules: tuple[str, ...]) -> tuple[dict[str, ast.Module], set[str]]:
    """Return the syntax trees of ``modules`` and of what they import at any depth, and the names of libraries."""
    trees: dict[str, ast.Module] = {}
    libraries: set[str] = set()
    for name in modules:
        if not is_module(name):
            raise ModuleNotFoundError(
                f"{name} is not a module of this project; name one of the packages {', '.join(_PACKAGES)}"
            )
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        package, _, _ = name.partition(".")
        if package not in _PACKAGES:
            libraries.add(package)
            continue
        file = _file_of(name)
        if file is None or name in trees:  # None: a function or a class of the module before the dot
            continue
        trees[name] = _parsed(file)
        waiting += _imports(trees[name])
    return trees, libraries - sys.stdlib_module_names


def _file_of(module: str) -> Path | None:
    path = _ROOT.joinpath(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the names that are imported anywhere in it; for ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _versions(libraries: set[str]) -> Iterator[tuple[str, str]]:
    distributions = _distributions()
    for name in {each for library in libraries for each in distributions.get(library, ())}:
        yield name, metadata.version(name)
