"""``ser serve`` and ``ser ui``: serve a model, show one on a web page."""

import functools
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import Refused
from cli.options import ADDRESS_HELP
from modules.common import ports
from serving.server import command

serve_app = typer.Typer(add_completion=False)
ui_app = typer.Typer(add_completion=False)


@serve_app.command()
@functools.wraps(command.serve)
def serve(**options: Any) -> None:
    """Run ``command.serve``."""
    command.serve(**options)


@ui_app.command()
def ui(
    address: Annotated[str, typer.Option(help=ADDRESS_HELP)] = "localhost:8500",
    host: Annotated[
        str,
        typer.Option(
            help="Interface to listen on; the default is reached from this machine alone. The page has no log-in."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the page.")] = 8510,
    max_upload_mb: Annotated[int, typer.Option(min=1, max=1024, help="Largest upload, in MB.")] = 100,
    max_sessions: Annotated[
        int, typer.Option(min=1, help="Largest number of sessions at the same time; the page refuses others.")
    ] = 20,
    model_base_path: Annotated[
        str, typer.Option(help="Folder of pushed versions, local or gs://, to show the model card from.")
    ] = command.DEFAULT_BASE_PATH,
    samples: Annotated[str, typer.Option(help="Folder of recordings to try, local or gs://.")] = "demo",
) -> None:
    """Open a web page that predicts the emotion of a new recording or a file. Its health is at /_stcore/health."""
    import serving
    from serving.client.transport import require_known

    require_known(address)
    if refusal := ports.refusal(host, {"--port": port}):
        raise Refused(refusal)
    page = Path(serving.__file__).parent / "ui" / "page.py"
    options = {
        "server.address": host,
        "server.port": str(port),
        "server.maxUploadSize": str(max_upload_mb),
        "server.fileWatcherType": "none",
        "client.toolbarMode": "minimal",
        "browser.gatherUsageStats": "false",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    arguments = ["--address", address, "--model-base-path", model_base_path, "--samples", samples]
    arguments += ["--max-sessions", str(max_sessions)]
    program = [sys.executable, "-m", "streamlit", "run", str(page), *words, "--", *arguments]
    os.execv(sys.executable, program)  # replaces this process, so that signals reach the page directly
