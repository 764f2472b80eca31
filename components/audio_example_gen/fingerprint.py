"""Fingerprint of the recordings, a part of the cache key of the AudioExampleGen."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from unittest import mock

from apache_beam.io.filesystems import FileSystems
from tfx.utils import io_utils

from components.audio_example_gen.files import literal, matching

_State = tuple[str, int, float, float]


def fingerprint(split: str, pattern: str) -> str:
    """Return a text that differs when a matching file appears, disappears, changes or is renamed.

    TFX's own sends a request to a bucket for each file and ignores names. This one lists a thousand files per request.

    Args:
        split: Name of TFX's input split.
        pattern: Address with wildcards.
    """
    files = sorted(_listed(pattern) if FileSystems.get_scheme(pattern) else _stated(pattern))
    digest = hashlib.sha256(repr(files).encode()).hexdigest()
    return f"split:{split},num_files:{len(files)},total_bytes:{sum(size for _, size, _, _ in files)},sha256:{digest}"


@contextlib.contextmanager
def used_by_tfx() -> Iterator[None]:
    """Replace the fingerprint of TFX's drivers, which have no hook for it, by this one."""
    with mock.patch.object(io_utils, "generate_fingerprint", fingerprint):
        yield


def _listed(pattern: str) -> Iterator[_State]:
    """Yield the files in a bucket, where a renamed object has a new time of update."""
    (match,) = FileSystems.match([literal(pattern)])
    for file in match.metadata_list:
        yield file.path, file.size_in_bytes, file.last_updated_in_seconds, 0.0


def _stated(pattern: str) -> Iterator[_State]:
    """Yield local files. A rename changes ``st_ctime``, not ``st_mtime``."""
    for path in matching(pattern):
        if os.path.isfile(path):
            status = os.stat(path)
            yield path, status.st_size, status.st_mtime_ns, status.st_ctime_ns
