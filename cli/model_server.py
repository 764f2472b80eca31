"""The server that a command asks: a given one, the local one, or the last pushed model."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cli import terminal
from cli.errors import CommandFailed
from cli.options import ADDRESS_HELP
from modules.common import addresses
from serving.server import command

_DEFAULT_PORT = 8500
_DEFAULT_ADDRESS = f"localhost:{_DEFAULT_PORT}"
_CONNECT_SEC = 1.0
_LOADING_SEC = 120.0

Address = Annotated[
    str | None, typer.Option(help=ADDRESS_HELP, show_default=f"{_DEFAULT_ADDRESS}, or the last pushed model")
]
ModelBasePath = Annotated[
    str | None,
    typer.Option(help="Folder of versions, local or gs://, to load the newest from in place of using a server."),
]


@contextlib.contextmanager
def server(address: str | None, model_base_path: str | None) -> Iterator[str]:
    """Yield the address of the server: the given one, the local one, or one that runs as long as the context.

    Args:
        address: Address of a server.
        model_base_path: Folder of versions to load the newest from.

    Raises:
        CommandFailed: There is no server, and no pushed model.
        Refused: The folder cannot be read.
    """
    if model_base_path is None and (address is not None or _is_listening(_DEFAULT_PORT)):
        yield address or _DEFAULT_ADDRESS
        return
    from serving.server.subprocess_server import served

    base_path = model_base_path or _last_pushed()
    command.require_folder(base_path)
    terminal.print_status(f"Loading the newest model below {base_path} ...")
    with served(addresses.absolute(base_path), timeout_sec=_LOADING_SEC) as started:
        yield started


def _is_listening(port: int) -> bool:
    try:
        with socket.create_connection(("localhost", port), timeout=_CONNECT_SEC):
            return True
    except OSError:
        return False


def _last_pushed() -> str:
    """Return the folder of pushed models, since no server listens."""
    base_path = Path(command.DEFAULT_BASE_PATH)
    versions = [int(path.name) for path in base_path.glob("[0-9]*") if path.name.isdecimal()]
    if not versions:
        raise CommandFailed(
            f"no server answers at {_DEFAULT_ADDRESS}, and {base_path} has no pushed model; run the pipeline, or name "
            "a server with --address or a folder of versions with --model-base-path"
        )
    terminal.print_status(
        f"No server answers at {_DEFAULT_ADDRESS}: using the last pushed model, version {max(versions)}."
    )
    return command.DEFAULT_BASE_PATH
