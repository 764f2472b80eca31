"""Files at addresses: paths of this machine, or ``gs://`` addresses, which TensorFlow's file system reads and writes.

``pathlib`` turns ``gs://bucket/name`` into ``gs:/bucket/name``, so ruff bans it where an address may be a bucket's.
TensorFlow takes seconds to load, and is loaded for a bucket alone.
"""

import collections
import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

_BUCKET = "gs://"
# TensorFlow would otherwise fill a buffer of 64 MiB for each file that it reads.
_BLOCK_SIZE_MB = "4"
_READ_BYTES = 1 << 20


def in_bucket(address: str) -> bool:
    """Return whether an address is one of Cloud Storage."""
    return address.startswith(_BUCKET)


def absolute(address: str) -> str:
    """Return an address that does not depend on the working directory."""
    return address if in_bucket(address) else os.path.abspath(address)


def is_folder(address: str) -> bool:
    """Return whether there is a folder; in a bucket, whether any object lies below the address.

    Raises:
        OSError: The bucket cannot be read.
    """
    if not in_bucket(address):
        return os.path.isdir(address)
    try:
        with _gfile() as gfile:
            return gfile.stat(address).is_directory
    except FileNotFoundError:
        return False


def files(folder: str) -> list[str]:
    """Return the paths of all files below ``folder``, relative to it, sorted; links to folders are followed.

    Raises:
        OSError: The bucket cannot be read, or does not exist.
    """
    if not in_bucket(folder):
        return sorted(os.path.relpath(path, folder) for path in walk(folder) if os.path.isfile(path))
    with _gfile() as gfile:
        return sorted(_below(gfile, folder.rstrip("/"), ""))


def walk(folder: str, *, on_error: Callable[[OSError], None] | None = None) -> Iterator[str]:
    """Yield all entries below a local folder, subfolders included. Links are followed, into each folder once.

    Links are followed after all else, so that a folder that lies there has its own path.

    Args:
        folder: Path of the folder.
        on_error: Called for a folder that cannot be read, which is left out.
    """
    entered: set[str] = set()
    links = collections.deque([folder])
    while links:
        for top, subfolders, names in os.walk(links.popleft(), onerror=on_error):
            real = os.path.realpath(top)
            if real in entered:
                subfolders.clear()
                continue
            entered.add(real)
            subfolders.sort()
            below = [os.path.join(top, name) for name in subfolders]
            links += filter(os.path.islink, below)
            yield from (*below, *(os.path.join(top, name) for name in names))


def read_bytes(address: str, *, max_bytes: int = -1) -> bytes:
    """Return a file's content, or its first ``max_bytes``.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: It cannot be read.
    """
    if not in_bucket(address):
        with open(address, "rb") as file:
            return file.read(max_bytes)
    with _gfile() as gfile, gfile.GFile(address, "rb") as stored:
        return stored.read(max_bytes)


def read_blocks(address: str) -> Iterator[bytes]:
    """Yield a file's content in blocks of at most 1 MiB, for files that may be larger than the memory.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: It cannot be read.
    """
    with contextlib.ExitStack() as stack:
        file: Any
        if in_bucket(address):
            file = stack.enter_context(stack.enter_context(_gfile()).GFile(address, "rb"))
        else:
            file = stack.enter_context(open(address, "rb"))
        while block := file.read(_READ_BYTES):
            yield block


def write_bytes(address: str, content: bytes) -> None:
    """Write a file and wait until it is stored; missing folders are made. Readers never see a part of it.

    Raises:
        OSError: It cannot be written.
    """
    if in_bucket(address):
        with _gfile() as gfile, gfile.GFile(address, "wb") as stored:
            stored.write(content)
        return
    folder, name = os.path.split(address)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")  # no suffix that readers look for
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, address)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def remove(address: str) -> None:
    """Delete a file.

    Raises:
        OSError: It cannot be deleted.
    """
    if not in_bucket(address):
        os.remove(address)
        return
    with _gfile() as gfile:
        gfile.remove(address)


def _below(gfile: Any, folder: str, prefix: str) -> Iterator[str]:
    """Yield what lies below. Listings of a bucket end folders in a slash, which saves a request for each file."""
    for name in gfile.listdir(f"{folder}/{prefix}"):
        if name.endswith("/"):
            yield from _below(gfile, folder, prefix + name)
        elif name:
            yield prefix + name


@contextlib.contextmanager
def _gfile() -> Iterator[Any]:
    """Yield TensorFlow's file systems, with the errors of Python's."""
    os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", _BLOCK_SIZE_MB)
    import tensorflow as tf

    try:
        yield tf.io.gfile
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(error.message) from error
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
