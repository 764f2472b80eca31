"""``ser monitor``: export the state of runs and served versions to Prometheus."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import Refused
from cli.options import ModelName
from modules.common import ports

app = typer.Typer(add_completion=False)


@app.command()
def monitor(
    root: Annotated[Path, typer.Option(help="Folder of the output of runs.")] = Path("output"),
    address: Annotated[str, typer.Option(help="REST interface of the server.")] = "http://localhost:8501",
    model: ModelName = "ser",
    host: Annotated[
        str, typer.Option(help="Interface to listen on; the default is reached from this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the metrics.")] = 9108,
) -> None:
    """Export the state of runs and served versions to Prometheus, at /metrics."""
    from serving.monitor import Exporter, export

    if os.path.lexists(root) and not root.is_dir():
        raise Refused(f"--root {root} is not a folder; name the one that `runner_local.py --root` writes")
    if refusal := ports.refusal(host, {"--port": port}):
        raise Refused(refusal)
    thread = export(Exporter(root, address, model), host=host, port=port)
    typer.echo(f"metrics on http://{host}:{port}/metrics")
    thread.join()
