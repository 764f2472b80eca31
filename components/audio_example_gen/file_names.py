"""Names of the files next to the examples, for readers that do not import TFX."""

CLIPS_FILE = "clips.jsonl"
"""Outcome of each recording, with the SHA-256 of its file: the version of the data."""

QUARANTINE_FILE = "quarantine.jsonl"
"""Recordings that cannot be used, with reasons."""

SUMMARY_FILE = "ingest.json"
"""Settings and numbers of the ingestion."""
