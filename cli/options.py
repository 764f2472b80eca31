"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer


def _keys_beginning_with(incomplete: str) -> list[str]:
    """Return the configuration's keys, for the completion of a shell."""
    from modules.common.settings import leaves
    from pipeline.vertex.config import VertexConfig

    keys = (f"{key}=" for key, _ in leaves(VertexConfig.model_json_schema()))
    return [key for key in keys if key.startswith(incomplete)]


ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with what differs from the defaults.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="One value, such as training.epochs=20; may be repeated.",
        autocompletion=_keys_beginning_with,
    ),
]
