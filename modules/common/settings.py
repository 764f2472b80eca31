"""Settings as frozen pydantic models, and texts that explain refused values.

Imports nothing of this project: every settings class is derived from :class:`Settings`.
"""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import pydantic
from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

_NAMES = {
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "a section",
    "string": "a text",
}
MAX_SEED = 2**32 - 1
"""Largest seed that NumPy and Keras take."""

_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")


class Settings(pydantic.BaseModel):
    """Frozen, validated settings that refuse unknown keys and non-finite numbers."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some values changed.

        Args:
            **changes: New values by name.

        Raises:
            pydantic.ValidationError: A value is not allowed.
        """
        return type(self)(**{**dict(self), **changes})

    def to_json(self) -> str:
        """Return canonical JSON: equal settings give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the settings that :meth:`to_json` wrote.

        Args:
            text: JSON of the settings.

        Raises:
            pydantic.ValidationError: The text does not hold such settings.
        """
        return cls.model_validate_json(text)


class Problem(NamedTuple):
    """One value that cannot be used.

    Attributes:
        key: The key, with dots between sections.
        code: Pydantic's type of the error, such as ``greater_than_equal``.
        text: Key, value given and values allowed, in one line.
    """

    key: str
    code: str
    text: str


def problems(
    error: pydantic.ValidationError, settings: type[pydantic.BaseModel], *, origin: Callable[[str], str] = lambda _: ""
) -> list[Problem]:
    """Describe every value that pydantic refused.

    Args:
        error: What the validation of ``settings`` raised.
        settings: The class that was validated.
        origin: Returns where the value of a key comes from; empty where that is obvious.
    """
    schema = settings.model_json_schema()
    return [_problem(detail, schema, origin) for detail in error.errors()]


def explain(error: pydantic.ValidationError, settings: type[pydantic.BaseModel]) -> str:
    """Return the texts of :func:`problems` as one text."""
    return "; ".join(problem.text for problem in problems(error, settings))


def allowed(schema: Mapping[str, Any]) -> str:
    """Return the values that a leaf of a JSON schema allows, in words."""
    if "allowed" in schema:
        return str(schema["allowed"])
    if "enum" in schema or "const" in schema:
        return ", ".join(plain(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(allowed(choice) for choice in schema["anyOf"])
    kind = schema.get("type", "")
    if kind in ("integer", "number"):
        return f"{_NAMES[kind]}{_bounds(schema)}"
    if kind == "array":
        return f"a list of {allowed(schema['items']).replace('a text', 'texts')}"
    return _NAMES.get(kind, "any value")


def leaves(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the key and the schema of every setting, in the order of the classes.

    Keys that the user chooses, as in ``vertex.nodes``, appear as ``NAME``.
    """
    yield from _leaves(schema, schema, ())


def plain(value: Any) -> str:
    """Return a value as YAML writes it, in one line."""
    if isinstance(value, str):
        return value if value and value == value.strip() else repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(plain, value)) + "]"
    return json.dumps(value, default=str)


def _bounds(schema: Mapping[str, Any]) -> str:
    low = _bound(schema, "minimum", "from {}") or _bound(schema, "exclusiveMinimum", "above {}")
    high = _bound(schema, "maximum", "at most {}") or _bound(schema, "exclusiveMaximum", "below {}")
    if low.startswith("from ") and high.startswith("at most "):
        return f" {low} to {high.removeprefix('at most ')}"
    if low.startswith("from ") and not high:
        return f", {low.removeprefix('from ')} or above"
    return "".join(f", {bound}" for bound in (low, high) if bound)


def _bound(schema: Mapping[str, Any], name: str, text: str) -> str:
    return text.format(f"{schema[name]:.15g}") if name in schema else ""


def _problem(detail: ErrorDetails, schema: Mapping[str, Any], origin: Callable[[str], str]) -> Problem:
    location, code = tuple(name for name in detail["loc"] if name != "[key]"), detail["type"]
    key = ".".join(map(str, location))
    where = f" ({origin(key)})" if origin(key) else ""
    message = detail["msg"].removeprefix("Value error, ")
    if code in _UNKNOWN_KEY:
        text = f"{key}{where} is not a key; {_suggestion(location, schema)}"
    elif code == "missing":
        text = f"{key} is not set; allowed: {allowed(schema_at(location, schema))}"
    elif code != "value_error":
        text = f"{key} is {_seen(detail['input'])}{where}; allowed: {allowed(schema_at(location, schema))}"
    elif isinstance(detail["input"], Mapping | pydantic.BaseModel):
        text = f"{key}: {message}" if key else message
    else:
        text = f"{key} is {_seen(detail['input'])}{where}; {message}"
    return Problem(key, code, text)


def _seen(value: Any) -> str:
    return "a section" if isinstance(value, Mapping) else plain(value)


def _suggestion(location: Location, schema: Mapping[str, Any]) -> str:
    *section, name = map(str, location)
    siblings = sorted(schema_at(tuple(section), schema).get("properties", {}))
    near = [".".join([*section, close]) for close in difflib.get_close_matches(name, siblings, n=1)]
    near = near or [key for key, _ in leaves(schema) if key.rpartition(".")[2] == name]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"allowed{' in ' + '.'.join(section) if section else ''}: {', '.join(siblings)}"


def schema_at(location: Location, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a JSON schema that describes one section or setting; empty if it has none."""
    part = schema
    for name in location:
        if name in part.get("properties", {}):
            part = part["properties"][name]
        else:
            named = [*part.get("patternProperties", {}).values(), {}][0]
            part = part.get("items") or part.get("additionalProperties") or named
        part = _resolved(part, schema)
    return part


def _resolved(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in part:
        return part
    return {**schema["$defs"][part["$ref"].rpartition("/")[2]], **part}


def _leaves(
    part: Mapping[str, Any], schema: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    part = _resolved(part, schema)
    named = part.get("additionalProperties")
    if "properties" in part:
        for name, below in part["properties"].items():
            yield from _leaves(below, schema, (*path, name))
    elif isinstance(named, Mapping) and "$ref" in named:
        yield from _leaves(named, schema, (*path, "NAME"))
    else:
        yield ".".join(path), part
