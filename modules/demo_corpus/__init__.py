"""Synthetic corpus in place of emotional speech, which may not be distributed.

Nothing measured on it is accuracy on human speech, so its folder carries a marker and its clips a corpus name of
their own. This module imports nothing heavy; ``modules.demo_corpus.corpus`` writes the files.
"""

CORPUS_NAME = "demo"

MARKER_FILE = "demo_corpus.json"
SYNTHETIC_TAG = "Synthetic speech of the demo corpus of ser-pipeline"
"""Comment in every file, which stays when files are copied without the marker."""

_HEAD_BYTES = 65_536


def is_synthetic(content: bytes) -> bool:
    """Return whether a sound file has the tag of the demo corpus among its first chunks or comments.

    Args:
        content: Content of the file.
    """
    return SYNTHETIC_TAG.encode() in content[:_HEAD_BYTES]
