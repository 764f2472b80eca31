"""Keys of content, and keys that shuffle."""

import hashlib
import json


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
