"""Checks of folders that a command reads or writes, before anything runs."""

import os
import re
from pathlib import Path

from cli.errors import CommandFailed, Refused
from modules.common import addresses

_WILDCARDS = {*"*?[]"}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/")


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
    if "://" in address and not addresses.in_bucket(address):
        raise Refused(f"folder {name} has a scheme that is not read; name a local folder, or one of gs://")
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
    if match := _SCHEME.match(str(folder)):
        raise Refused(f"{option} {folder} begins with {match[0]}, an address; name a folder of this machine")
    try:
        folder.stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # such as a name that is too long, or a loop of links
        raise Refused(f"{option} {folder}: {error.strerror}; name another folder") from error
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        raise Refused(f"{option} {folder}: {there} is not a folder; name another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise Refused(f"{option} {folder}: {there} cannot be written; change its permissions, or name another folder")


def require_root(folder: Path, *, option: str) -> None:
    """Require that a folder can hold runs of the pipeline.

    Args:
        folder: Local folder.
        option: Option that names it.

    Raises:
        Refused: It cannot be written, or TFX would take its name for a pattern.
    """
    require_output(folder, option=option)
    if found := sorted(_WILDCARDS & {*str(folder.absolute())}):
        raise Refused(
            f"{option} {folder.absolute()} has {' '.join(found)} in its name, which TFX takes for wildcards; name a "
            "folder without them"
        )


def require_output_file(file: Path, *, option: str) -> None:
    """Require that a file can be written.

    Args:
        file: Local file.
        option: Option that names it.

    Raises:
        Refused: Something else is in its place, or its folder cannot be written.
    """
    require_output(file.parent, option=option)
    if os.path.lexists(file) and not file.is_file():
        raise Refused(f"{option} {file} is not a file; name another file")
