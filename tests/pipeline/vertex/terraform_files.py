"""The Terraform configuration, read with an HCL parser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

FOLDER = Path(__file__).parents[3] / "deploy" / "terraform"
FILES = sorted(FOLDER.glob("*.tf"))

_OPTIONS = SerializationOptions(strip_string_quotes=True, with_comments=False, explicit_blocks=False)


def parse(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the blocks of a file, by kind. References and calls are texts such as ``${var.project}``."""
    return hcl2.loads(path.read_text(), serialization_options=_OPTIONS)


def blocks(kind: str) -> list[dict[str, Any]]:
    """Return all blocks of a kind, such as ``variable``."""
    return [block for path in FILES for block in parse(path).get(kind, [])]


def named(kind: str) -> dict[str, dict[str, Any]]:
    """Return variables or outputs, by name."""
    return {name: body for block in blocks(kind) for name, body in block.items()}


def local_values() -> dict[str, Any]:
    """Return the local values of all files."""
    return {name: value for block in blocks("locals") for name, value in block.items()}


def resources() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the resources, by kind and name."""
    return {
        (kind, name): body
        for block in blocks("resource")
        for kind, by_name in block.items()
        for name, body in by_name.items()
    }


def _each(for_each: str | dict[str, str] | None) -> Iterator[tuple[str, str]]:
    if for_each is None:
        yield "", ""
    elif isinstance(for_each, dict):
        yield from for_each.items()
    elif not for_each.startswith("${toset(["):
        yield "", ""  # Terraform computes the keys from variables
    else:
        keys = json.loads(for_each.removeprefix("${toset(").removesuffix(")}"))
        yield from zip(keys, keys, strict=True)


def _fill(body: Any, key: str, value: str) -> Any:
    if isinstance(body, dict):
        return {name: _fill(part, key, value) for name, part in body.items()}
    if isinstance(body, list):
        return [_fill(part, key, value) for part in body]
    if not isinstance(body, str):
        return body
    body = body.replace("[each.key]", f'["{key}"]')
    return body.replace("${each.key}", key).replace("${each.value}", value)


def instances(kind_pattern: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and body of each instance of the resources of some kinds, with ``each.key`` and ``each.value``."""
    for (kind, _), body in resources().items():
        if re.fullmatch(kind_pattern, kind):
            yield from ((kind, _fill(body, key, value)) for key, value in _each(body.get("for_each")))
