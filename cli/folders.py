"""Checks of folders that a command reads or writes, before anything runs."""

import os
from pathlib import Path

from cli.errors import CommandFailed, Refused
from modules.common import addresses


def require_folder(address: str, *, option: str = "", advice: str = "name the one with the recordings") -> None:
    """Require a folder that can be read.

    Args:
        address: Folder, local or ``gs://``.
        option: Option that names it.
        advice: Next step of the message.

    Raises:
        Refused: It does not exist, is a file, or cannot be read.
        CommandFailed: Its bucket cannot be read.
    """
    name = f"{option} {address}".strip()
    try:
        there = bool(address) and addresses.is_folder(address)
    except OSError as error:
        raise CommandFailed(f"cannot read {name}: {error}") from error
    if not there:
        found = "is empty" if not address else "is a file" if os.path.lexists(address) else "does not exist"
        raise Refused(f"folder {name or 'name'} {found}; {advice}")
    if not addresses.in_bucket(address) and not os.access(address, os.R_OK | os.X_OK):
        raise Refused(f"folder {name} cannot be read; change its permissions, or {advice}")


def require_output(folder: Path, *, option: str) -> None:
    """Require that a folder exists and can be written, or can be made.

    Args:
        folder: Local folder.
        option: Option that names it.

    Raises:
        Refused: A file is in its place, or it cannot be written.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        raise Refused(f"{option} {folder}: {there} is not a folder; name another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise Refused(f"{option} {folder}: {there} cannot be written; change its permissions, or name another folder")
