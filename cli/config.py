"""``ser config``: the configuration in effect, and the reference of every key."""

import os
from typing import Annotated, Literal

import typer

from cli.options import ConfigFile, Overrides

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show the configuration and its reference.")


@app.command()
def show(
    config: ConfigFile = None,
    overrides: Overrides = None,
    text_format: Annotated[Literal["yaml", "json", "markdown"], typer.Option("--format", help="Format.")] = "yaml",
) -> None:
    """Print every value in effect and its source: default, family, file, environment or --set."""
    from pipeline.config import PipelineConfig, validate
    from pipeline.config_sources import read_given, resolve
    from pipeline.config_text import show as show_text
    from pipeline.default_family import ON_VERTEX, on_this_machine
    from pipeline.vertex.config import VertexConfig

    given = read_given(config, overrides=overrides or [], environ=os.environ)
    on_vertex = any("vertex" in values for values in given.values())
    tree, family = (VertexConfig, ON_VERTEX) if on_vertex else (PipelineConfig, on_this_machine())
    sources = resolve(given, tree, family.name)
    typer.echo(show_text(validate(sources, tree), sources, text_format).rstrip())


@app.command()
def reference() -> None:
    """Print the page that describes every key, in Markdown."""
    from pipeline.config_text import reference as reference_text

    typer.echo(reference_text(), nl=False)
