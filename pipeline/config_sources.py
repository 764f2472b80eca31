"""Sources of the configuration's values: defaults, family, file, environment, command line.

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

from modules.common.errors import SerError
from modules.common.files import read_text
from modules.common.settings import Problem
from modules.models import DEFAULT_FAMILY, FAMILIES
from modules.models.encoder_cnn import finetuning_recipe

DEFAULT, FAMILY, FILE, ENVIRONMENT, COMMAND_LINE = "default", "family", "file", "environment", "--set"

RENAMED_KEYS: Mapping[str, str] = {
    "augmentation.noise_amplitude": "augmentation.noise_std",
    "drift.deals": "drift.permutations",
    "gate.min_slice_uar": "gate.min_slice_adjusted_uar",
    "gate.other_audio_spec": "gate.incomparable_baseline",
    "gate.min_uar": "gate.min_adjusted_uar",
    "labels.calm_as": "labels.mapping.calm",
    "vertex.trainer.spot": "vertex.trainer.strategy",
    "vertex.tuner.spot": "vertex.tuner.strategy",
}

REFERENCE = "docs/reference/configuration.md"

_ENVIRONMENT_PREFIX = "SER__"
_SEEDED_SECTIONS = ("splits", "drift", "training", "tuner")
_NEXT_STEP = (
    "Set a key with --set KEY=VALUE, the variable SER__SECTION__KEY or the file that --config names; "
    f"{REFERENCE} describes every key."
)

Values = dict[str, Any]


class ConfigError(SerError, ValueError):
    """The configuration cannot be used.

    Attributes:
        problems: One for each value that cannot be used; empty when a source cannot be read.
    """

    code = "config.unusable"

    def __init__(self, reason: str | Sequence[Problem]) -> None:
        """Build the message.

        Args:
            reason: A text, or a problem for each value.
        """
        self.problems = () if isinstance(reason, str) else tuple(reason)
        lines = ["The configuration cannot be used:", *(f"  {problem.text}" for problem in self.problems), _NEXT_STEP]
        super().__init__("\n".join(lines) if self.problems else reason)


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
        """Return the name of the source of a value or section; ``default`` where no source has it.

        Args:
            key: Key with dots, such as ``training.epochs``.
        """
        below = [origin for name, origin in self.origins.items() if f"{name}.".startswith(f"{key}.")]
        while key and key not in self.origins and not below:
            key = key.rpartition(".")[0]
        return self.origins.get(key, below[-1] if below else DEFAULT)

    def add(self, values: Values, origin: str) -> None:
        """Put the values of one source over the present ones.

        Args:
            values: Sections and values.
            origin: Name of the source.
        """
        _merge(self.values, values)
        for path, _ in flatten(values):
            for length in range(1, len(path)):
                self.origins.pop(".".join(path[:length]), None)  # a value is a section now
            self.origins[".".join(path)] = origin


def read_given(path: Path | None, *, overrides: Sequence[str], environ: Mapping[str, str]) -> dict[str, Values]:
    """Return the user's values by source.

    Args:
        path: See :func:`pipeline.config.load_config`.
        overrides: The same.
        environ: The same.

    Returns:
        Sections and values by name of the source.

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


def resolve(given: dict[str, Values], tree: type[pydantic.BaseModel], family: str = DEFAULT_FAMILY) -> Sources:
    """Merge defaults, recipe and the user's values.

    Args:
        given: The result of :func:`read_given`.
        tree: Class of the configuration.
        family: Model family where the user names none.

    Returns:
        The merged values with their sources.
    """
    user = Sources()
    for origin, values in given.items():
        user.add(values, origin)
    defaults, file = _merge(default_values(tree), {"training": {"family": family}}), given[FILE]
    sources = Sources()
    sources.add(defaults, DEFAULT)
    sources.add(_recipe(user.values, family), FAMILY)
    sources.add(_seeds(user.values), user.origin("seed"))
    # A value that repeats the default of the file's own family is not a setting: another family may replace it.
    repeated = _merge(_merge(defaults, _recipe(file, family)), _seeds(file))
    for origin, values in (given | {FILE: _differing(file, repeated)}).items():
        sources.add(values, origin)
    return sources


def read_environment(environ: Mapping[str, str]) -> Values:
    """Return the values of the variables ``SER__SECTION__KEY``.

    Args:
        environ: Environment variables.

    Returns:
        Sections and values.

    Raises:
        ConfigError: A variable is not YAML, or names a key below a value.
    """
    values: Values = {}
    for name, text in sorted(environ.items()):
        if name.startswith(_ENVIRONMENT_PREFIX):
            _set(values, name.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__"), text, origin=name)
    return values


def read_overrides(overrides: Iterable[str]) -> Values:
    """Return the values of ``section.key=value`` texts.

    Args:
        overrides: The texts.

    Returns:
        Sections and values.

    Raises:
        ConfigError: A text has no ``=``, is not YAML behind it, or names a key below a value.
    """
    values: Values = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override}: write it as section.key=value, such as training.epochs=20")
        _set(values, key.strip().split("."), text, origin=f"--set {override}")
    return values


def default_values(tree: type[pydantic.BaseModel]) -> Values:
    """Return the defaults of a tree of sections as plain values, without the required keys.

    Args:
        tree: Class of the configuration or of a section.
    """
    values: Values = {}
    for name, field in tree.model_fields.items():
        if not field.is_required():
            values[name] = to_jsonable_python(field.get_default(call_default_factory=True))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel):
            values[name] = default_values(field.annotation)
    return values


def flatten(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value with its path; an empty section counts as a value.

    Args:
        values: Sections and values.
        path: Path of ``values`` itself.
    """
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from flatten(value, (*path, str(key)))
    elif path:
        yield path, values


def variable(key: str) -> str:
    """Return the name of the environment variable of a key.

    Args:
        key: Key with dots, such as ``training.epochs``.
    """
    return _ENVIRONMENT_PREFIX + key.replace(".", "__").upper()


class _UniqueKeys(yaml.SafeLoader):
    """Loader that refuses a key that is there twice, as YAML does; PyYAML takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"a second {key.value}", key.start_mark)
            seen.add(key.value)
        return node


def _read_yaml(path: Path) -> Values:
    advice = f"give a YAML file, whose keys {REFERENCE} lists"
    try:
        values = yaml.load(read_text(path), _UniqueKeys)
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}; {advice}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"--config {path} is not YAML: {_one_line(error)}; correct the file") from None
    if not isinstance(values or {}, dict):
        raise ConfigError(
            f"--config {path} does not hold sections of keys; write it as configs/local.yaml, or {advice}"
        )
    return values or {}


def _one_line(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, without the lines that YAML quotes."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error).partition("\n")[0]
    return f"{error.problem} in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"


def _set(values: Values, keys: Sequence[str], text: str, *, origin: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{origin}: {key} is a value, not a section")
    try:
        # One value has no anchors, so a text that begins like an alias is a pattern.
        value = text if text.startswith("*") else yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not a YAML value: {_one_line(error)}; correct it") from None
    # "Ada: why" is a text; a mapping must have braces.
    values[keys[-1]] = text if isinstance(value, dict) and not text.lstrip().startswith("{") else value


def _refuse_renamed(values: Values, origin: str) -> None:
    keys = {".".join(path) for path, _ in flatten(values)} & RENAMED_KEYS.keys()
    if keys:
        raise ConfigError(
            [Problem(key, "renamed", f"{key} ({origin}) was renamed to {RENAMED_KEYS[key]}") for key in sorted(keys)]
        )


def _recipe(values: Values, default: str) -> Values:
    training = values.get("training")
    name = training.get("family", default) if isinstance(training, dict) else default
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        return {}
    recipe = {section: dict(keys) for section, keys in family.recipe.items()}
    blocks = training.get("finetune_blocks") if isinstance(training, dict) else 0
    if family.feature_family == "encoder" and isinstance(blocks, int) and blocks > 0:
        _merge(recipe, finetuning_recipe(blocks))
    return recipe


def _seeds(values: Values) -> Values:
    """Return the run's seed for every section with seeds; a section's own replaces it later."""
    seed = values.get("seed")
    return {name: {"seed": seed} for name in _SEEDED_SECTIONS} if isinstance(seed, int) and seed >= 0 else {}


def _differing(values: Values, defaults: Values) -> Values:
    differing = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, dict) and value and isinstance(default, dict):
            value = _differing(value, default)
            if value:
                differing[key] = value
        elif key not in defaults or value != default:
            differing[key] = value
    return differing


def _merge(onto: Values, values: Values) -> Values:
    """Put ``values`` over ``onto``, section by section, and return it."""
    for key, value in values.items():
        if isinstance(value, dict) and value and isinstance(onto.get(key), dict):
            _merge(onto[key], value)
        else:
            onto[key] = copy.deepcopy(value)
    return onto
