"""A synthetic corpus that stands in for emotional speech where none may be shipped.

Nothing measured on it is accuracy on human speech, so its folder carries a marker and its clips a corpus name of
their own. Imports nothing heavy: ``modules.demo_corpus.corpus`` does the work.
"""

CORPUS_NAME = "demo"

MARKER_FILE = "demo_corpus.json"
