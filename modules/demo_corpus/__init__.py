"""Synthetic corpus in place of emotional speech, which may not be distributed.

Nothing measured on it is accuracy on human speech, so its folder carries a marker and its clips a corpus name of
their own. This module imports nothing heavy; ``modules.demo_corpus.corpus`` writes the files.
"""

CORPUS_NAME = "demo"

MARKER_FILE = "demo_corpus.json"
