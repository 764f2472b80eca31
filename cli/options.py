"""Options that several commands have."""

import math
import ssl
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import Refused
from modules.common.files import require_file

ADDRESS_HELP = "HOST:PORT, grpcs://HOST:PORT, http(s)://HOST[:PORT] or vertex://PROJECT/REGION/ENDPOINT."


def _keys_beginning_with(incomplete: str) -> list[str]:
    """Return the configuration's keys, for the completion of a shell."""
    from modules.common.settings import leaves
    from pipeline.vertex.config import VertexConfig

    keys = (f"{key}=" for key, _ in leaves(VertexConfig.model_json_schema()))
    return [key for key in keys if key.startswith(incomplete)]


def require_finite(option: typer.CallbackParam, value: float) -> float:
    """Require a finite number: the bounds of an option let nan pass.

    Args:
        option: The option.
        value: Its value.

    Raises:
        Refused: It is nan or infinite.
    """
    if not math.isfinite(value):
        raise Refused(f"{option.opts[0]} is {value}; allowed: a finite number")
    return value


def require_text(option: typer.CallbackParam, value: str | None) -> str | None:
    """Require a name that a request can hold.

    Args:
        option: The option.
        value: Its value.

    Raises:
        Refused: It is not UTF-8, or empty.
    """
    if value is not None and (not value or not value.isprintable()):
        raise Refused(f"{option.opts[0]} is {value!r}; allowed: a name of printable characters in UTF-8")
    return value


def _require_certificates(file: Path | None) -> Path | None:
    """Require certificates that TLS can use, before a server is contacted."""
    if file is not None:
        try:
            require_file(file)
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except OSError as error:  # ssl.SSLError among them
            reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificates in PEM"
            raise Refused(f"--ca-file {file}: {reason}; name a file of certificates in PEM") from error
    return file


ModelName = Annotated[str, typer.Option(help="Name of the served model.", callback=require_text)]
CaFile = Annotated[
    Path | None, typer.Option(help="Certificates in PEM to trust over TLS.", callback=_require_certificates)
]
PushedModels = Annotated[str, typer.Option(help="Folder, local or gs://, with a numbered folder per version.")]
PublicKey = Annotated[
    str | None,
    typer.Option(
        help="Ed25519 public key in PEM, local or gs://, that must have signed the version.",
        show_default="signatures are not checked",
    ),
]
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
