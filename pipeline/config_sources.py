"""Where the values of the configuration come from: defaults, family, file, environment, command line.

The environment is read in this module alone: ``SER__TRAINING__EPOCHS=3`` is ``--set training.epochs=3``.
"""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic_core import to_jsonable_python

from modules.common.settings import Problem
from modules.models import DEFAULT_FAMILY, FAMILIES

DEFAULT, FAMILY, FILE, ENVIRONMENT, COMMAND_LINE = "default", "family", "file", "environment", "--set"

RENAMED_KEYS: Mapping[str, str] = {
    "drift.deals": "drift.permutations",
    "vertex.trainer.spot": "vertex.trainer.strategy",
    "vertex.tuner.spot": "vertex.tuner.strategy",
}

REFERENCE = "docs/reference/configuration.md"

_ENVIRONMENT_PREFIX = "SER__"
_SEEDED_SECTIONS = ("splits", "drift", "training", "tuner")
_NEXT_STEP = f"Correct them and run the command again; {REFERENCE} describes every key."

Values = dict[str, Any]


class ConfigError(ValueError):
    """The configuration cannot be used.

    Attributes:
        problems: One for each value that cannot be used; none where a source cannot be read.
    """

    def __init__(self, found: str | Sequence[Problem]) -> None:
        """Take a text, or what is wrong with each value."""
        self.problems = () if isinstance(found, str) else tuple(found)
        lines = ["The configuration cannot be used:", *(f"  {problem.text}" for problem in self.problems), _NEXT_STEP]
        super().__init__("\n".join(lines) if self.problems else found)


@dataclasses.dataclass(frozen=True)
class Sources:
    """The values of all sources, the later over the earlier.

    Attributes:
        values: Sections and values, not yet validated.
        origins: Name of the source of each value, by its key with dots.
    """

    values: Values = dataclasses.field(default_factory=dict)
    origins: dict[str, str] = dataclasses.field(default_factory=dict)

    def origin(self, key: str) -> str:
        """Return the name of the source of a value or section; the default where no source has it."""
        below = [origin for name, origin in self.origins.items() if f"{name}.".startswith(f"{key}.")]
        while key and key not in self.origins and not below:
            key = key.rpartition(".")[0]
        return self.origins.get(key, below[-1] if below else DEFAULT)

    def add(self, values: Values, origin: str) -> None:
        """Put the values of one source over those that are there."""
        _merge(self.values, values)
        for path, _ in flatten(values):
            for length in range(1, len(path)):
                self.origins.pop(".".join(path[:length]), None)  # a value is a section now
            self.origins[".".join(path)] = origin


def read_given(path: Path | None, *, overrides: Sequence[str], environ: Mapping[str, str]) -> dict[str, Values]:
    """Return what the user set, by source; see :func:`pipeline.config.load_config`.

    Raises:
        ConfigError: A source cannot be read, or uses an old name of a key.
    """
    given = {
        FILE: _read_yaml(path) if path else {},
        ENVIRONMENT: read_environment(environ),
        COMMAND_LINE: read_overrides(overrides),
    }
    for origin, values in given.items():
        _refuse_renamed(values, origin)
    return given


def resolve(given: dict[str, Values], tree: type[pydantic.BaseModel]) -> Sources:
    """Put defaults, recipe and the user's values over one another.

    Args:
        given: What :func:`read_given` returned.
        tree: The sections that there are.
    """
    user = Sources()
    for origin, values in given.items():
        user.add(values, origin)
    defaults, file = default_values(tree), given[FILE]
    sources = Sources()
    sources.add(defaults, DEFAULT)
    sources.add(_recipe(user.values), FAMILY)
    sources.add(_seeds(user.values), user.origin("seed"))
    # A value that repeats the default of the file's own family is not a setting: another family may replace it.
    repeated = _merge(_merge(defaults, _recipe(file)), _seeds(file))
    for origin, values in (given | {FILE: _differing(file, repeated)}).items():
        sources.add(values, origin)
    return sources


def read_environment(environ: Mapping[str, str]) -> Values:
    """Return the values of the variables ``SER__SECTION__KEY``."""
    values: Values = {}
    for name, text in sorted(environ.items()):
        if name.startswith(_ENVIRONMENT_PREFIX):
            _set(values, name.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__"), text, origin=name)
    return values


def read_overrides(overrides: Iterable[str]) -> Values:
    """Return the values of ``section.key=value`` texts."""
    values: Values = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: write it as section.key=value, such as training.epochs=20")
        _set(values, key.strip().split("."), text, origin=f"--set {override}")
    return values


def default_values(tree: type[pydantic.BaseModel]) -> Values:
    """Return the defaults of a tree of sections as plain values, without the keys that must be set."""
    values: Values = {}
    for name, field in tree.model_fields.items():
        if not field.is_required():
            values[name] = to_jsonable_python(field.get_default(call_default_factory=True))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel):
            values[name] = default_values(field.annotation)
    return values


def flatten(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value with its path; an empty section is a value."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from flatten(value, (*path, str(key)))
    elif path:
        yield path, values


def variable(key: str) -> str:
    """Return the name of the environment variable of a key."""
    return _ENVIRONMENT_PREFIX + key.replace(".", "__").upper()


def _read_yaml(path: Path) -> Values:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; {REFERENCE} lists every key that one may hold")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(values or {}, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; it must hold sections, as configs/local.yaml does")
    return values or {}


def _set(values: Values, keys: Sequence[str], text: str, *, origin: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{origin}: {key} is a value, not a section")
    try:
        # One value has no anchors, so a text that begins like an alias is a pattern.
        value = text if text.startswith("*") else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: {text!r} is not a YAML value: {error}") from None
    # "Ada: why" is a text here; a mapping has braces.
    values[keys[-1]] = text if isinstance(value, dict) and not text.lstrip().startswith("{") else value


def _refuse_renamed(values: Values, origin: str) -> None:
    keys = {".".join(path) for path, _ in flatten(values)} & RENAMED_KEYS.keys()
    if keys:
        raise ConfigError(
            [Problem(key, "renamed", f"{key} ({origin}) was renamed to {RENAMED_KEYS[key]}") for key in sorted(keys)]
        )


def _recipe(values: Values) -> Values:
    training = values.get("training")
    name = training.get("family", DEFAULT_FAMILY) if isinstance(training, dict) else DEFAULT_FAMILY
    family = FAMILIES.get(name) if isinstance(name, str) else None
    return {section: dict(keys) for section, keys in family.recipe.items()} if family else {}


def _seeds(values: Values) -> Values:
    """One seed serves every section without its own."""
    seed = values.get("seed")
    return {name: {"seed": seed} for name in _SEEDED_SECTIONS} if isinstance(seed, int) and seed >= 0 else {}


def _differing(values: Values, defaults: Values) -> Values:
    found = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, dict) and value and isinstance(default, dict):
            value = _differing(value, default)
            if value:
                found[key] = value
        elif key not in defaults or value != default:
            found[key] = value
    return found


def _merge(onto: Values, values: Values) -> Values:
    """Put ``values`` over ``onto``, section by section, and return it."""
    for key, value in values.items():
        if isinstance(value, dict) and value and isinstance(onto.get(key), dict):
            _merge(onto[key], value)
        else:
            onto[key] = copy.deepcopy(value)
    return onto
