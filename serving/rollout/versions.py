"""Folders of versions below a base path, local or in a bucket."""

import contextlib
import dataclasses
import os
import posixpath
import shutil
from collections.abc import Mapping

from modules.common import addresses

_REMOVED_PREFIX = ".removed-"  # servers ignore names that are not numbers
_GRAPH_FILE = "saved_model.pb"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruned:
    """Versions below a base path.

    Attributes:
        base_path: The base path.
        kept: Reason for keeping each version, by its number.
        removed: The others.
    """

    base_path: str
    kept: Mapping[int, str]
    removed: tuple[int, ...]


def list_versions(base_path: str) -> list[int]:
    """Return the numbers of all versions, complete or not, lowest first.

    Args:
        base_path: Folder of the versions.

    Raises:
        OSError: The folder cannot be read.
    """
    if addresses.in_bucket(base_path):
        names = {path.partition("/")[0] for path in addresses.files(base_path)}
    else:
        names = {entry.name for entry in os.scandir(base_path) if entry.is_dir()}
    return sorted(int(name) for name in names if name.isdecimal())


def remove_version(base_path: str, version: int) -> None:
    """Remove a version so that no server sees a part of it.

    A local folder is renamed first. In a bucket the graph is removed first, without which there is nothing to load.

    Args:
        base_path: Folder of the versions.
        version: Number of the version.

    Raises:
        OSError: A file cannot be removed; repeat the removal.
    """
    folder = posixpath.join(base_path, str(version))
    if addresses.in_bucket(folder):
        for path in sorted(addresses.files(folder), key=lambda path: (path != _GRAPH_FILE, path)):
            addresses.remove(posixpath.join(folder, path))
        return
    hidden = posixpath.join(base_path, f"{_REMOVED_PREFIX}{version}")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(hidden)
    os.rename(folder, hidden)
    shutil.rmtree(hidden)


def clear_removed(base_path: str) -> None:
    """Delete what interrupted removals left in a local folder.

    Args:
        base_path: Folder of the versions.
    """
    if not addresses.in_bucket(base_path):
        for entry in os.scandir(base_path):
            if entry.name.startswith(_REMOVED_PREFIX):
                shutil.rmtree(entry.path)
