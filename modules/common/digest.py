"""Digests of files, keys of content, and keys that shuffle."""

import hashlib
import json
from typing import NamedTuple

from modules.common import addresses


class FileDigest(NamedTuple):
    """Content of a file.

    Attributes:
        sha256: SHA-256 in hexadecimal digits.
        size_bytes: Size in bytes.
    """

    sha256: str
    size_bytes: int


def file_digest(address: str) -> FileDigest:
    """Return the digest of a file of any size.

    Args:
        address: File, local or in a bucket.

    Raises:
        OSError: The file cannot be read.
    """
    sha256, size_bytes = hashlib.sha256(), 0
    for block in addresses.read_blocks(address):
        sha256.update(block)
        size_bytes += len(block)
    return FileDigest(sha256.hexdigest(), size_bytes)


def digest(content: object) -> str:
    """Return 16 hexadecimal digits, the start of the SHA-256 of the content as JSON with sorted keys.

    Args:
        content: Anything that JSON can write.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def shuffle_key(seed: int, *names: str) -> str:
    """Return a key whose order is a permutation of the named items, the same in every run.

    Args:
        seed: Seed of the permutation.
        names: Names that identify the item.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256("\n".join([str(seed), *names]).encode()).hexdigest()
