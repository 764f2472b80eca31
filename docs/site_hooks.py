"""Generate the pages of the site that are written from code."""

from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from cli.main import COMMANDS, load_command


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the reference of the command line."""
    files.append(File.generated(config, "reference/commands.md", content=command_reference()))
    return files


def command_reference() -> str:
    """Return the Markdown page of all `ser` commands, as Typer describes them."""
    pages = [_page(name) for name in COMMANDS]
    return "\n".join(["# Command line", "", "`ser --help` lists the commands.", "", *pages])


def _page(name: str) -> str:
    command: Any = load_command(name)
    context = typer.Context(command, info_name=f"ser {name}")
    return get_docs_for_click(obj=command, ctx=context, name=f"ser {name}", title=f"ser {name}").replace("# ", "## ", 1)
