"""Short keys of content."""

import hashlib
import json


def digest(content: object) -> str:
    """Return 16 hexadecimal digits, the start of the SHA-256 of the content as JSON with sorted keys.

    Args:
        content: Anything that JSON can write.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
