"""Texts about the configuration: the values in effect with their sources, and the reference of every key."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import yaml

from modules.common.settings import allowed, leaves, plain, schema_at
from modules.models import DEFAULT_FAMILY, FAMILIES
from pipeline.config import PipelineConfig
from pipeline.config_sources import RENAMED_KEYS, Sources, default_values, flatten, variable
from pipeline.vertex.config import VertexConfig

Format = Literal["yaml", "json", "markdown"]

_COLUMNS = ("Key", "Default", "Allowed", "Meaning")
_WHOLE_RUN = "Keys outside the sections."
_HEAD = f"""# Configuration

<!-- Written by `make reference`. -->

A value comes from the defaults below, then the recipe of the model family, then the file that `--config` names, then
the environment, then `--set`; the later wins:

```
python runner_local.py --data DIR --config my.yaml --set training.epochs=20
{variable("training.epochs")}=20 python runner_local.py --data DIR
```

A file holds the keys that should differ. A value in a file that repeats the default is not a setting: the recipe of
another family replaces it. `ser config show` takes `--config` and `--set` as the runners do, and prints every value and
its source: default, family, file, environment or `--set`.
"""


def show(config: PipelineConfig, sources: Sources, text_format: Format) -> str:
    """Return every value with its source.

    Args:
        config: Configuration.
        sources: Sources of its values.
        text_format: ``yaml`` gives a file that ``--config`` accepts, ``markdown`` a table.
    """
    if text_format == "yaml":
        return "\n".join(_yaml_lines(config.to_dict(), sources, ()))
    values = {".".join(path): (value, sources.origin(".".join(path))) for path, value in flatten(config.to_dict())}
    if text_format == "json":
        return json.dumps({key: {"value": value, "from": origin} for key, (value, origin) in values.items()}, indent=2)
    rows = ((f"`{key}`", f"`{plain(value)}`", origin) for key, (value, origin) in values.items())
    return _table(("Key", "Value", "From"), rows)


def reference() -> str:
    """Return a Markdown page with default, allowed values and meaning of every key."""
    schema = VertexConfig.model_json_schema()
    defaults = {".".join(path): value for path, value in flatten(default_values(VertexConfig))}
    declared = dict(leaves(schema))
    # Such as vertex.nodes.AnomalyGate, which the schema declares as vertex.nodes.NAME.
    beyond = [key for key in defaults if key not in declared and key.rpartition(".")[0] not in declared]
    named = {key: schema_at(tuple(key.split(".")), schema) for key in beyond}
    parts = [_HEAD]
    for section, keys in _by_section([*declared, *named]).items():
        rows = [_row(key, declared.get(key) or named[key], defaults) for key in keys]
        head = schema_at(tuple(section.split(".")), schema)["description"] if section else _WHOLE_RUN
        parts.append(f"## {section or 'Whole run'}\n\n{head}\n\n{_table(_COLUMNS, rows)}")
    return "\n".join([*parts, _hyperparameters(), _recipes(), _renamed()]).rstrip() + "\n"


def _by_section(keys: Iterable[str]) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for key in keys:
        sections.setdefault(key.rpartition(".")[0], []).append(key)
    return sections


def _row(key: str, leaf: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[str, ...]:
    required = key not in defaults and "default" not in leaf
    default = "must be set" if required else f"`{plain(defaults.get(key, leaf.get('default')))}`"
    return f"`{key}`", default, allowed(leaf).replace("*", "\\*"), leaf["description"]


def _yaml_lines(values: Mapping[str, Any], sources: Sources, path: tuple[str, ...]) -> Iterable[str]:
    indent = "  " * len(path)
    for name, value in values.items():
        here = (*path, name)
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _yaml_lines(value, sources, here)
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
            yield f"{indent}{name}: {text}  # {sources.origin('.'.join(here))}"


def _hyperparameters() -> str:
    parts = ["## Hyperparameters\n\nKeys of `training.hyperparameters`, by family.\n"]
    for family in FAMILIES.values():
        rows = [_row(key, leaf, {}) for key, leaf in leaves(family.hyperparameters_type.model_json_schema())]
        parts.append(f"### {family.name}\n\n{_table(_COLUMNS, rows)}")
    return "\n".join(parts)


def _recipes() -> str:
    parts = [f"## Recipes\n\nThe defaults are those of `{DEFAULT_FAMILY}`. Other families change these, too.\n"]
    for family in FAMILIES.values():
        rows = [(f"`{'.'.join(path)}`", f"`{plain(value)}`") for path, value in flatten(dict(family.recipe))]
        if rows:
            parts.append(f"### {family.name}\n\n" + _table(("Key", "Value"), rows))
    return "\n".join(parts)


def _renamed() -> str:
    rows = [(f"`{old}`", f"`{new}`") for old, new in RENAMED_KEYS.items()]
    return "## Renamed keys\n\n" + _table(("Old name", "Name"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n" for cells in lines)
