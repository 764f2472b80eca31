"""Files, progress and code fingerprints."""
