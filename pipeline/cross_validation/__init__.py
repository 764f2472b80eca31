"""Cross-validation by speakers or corpora."""
