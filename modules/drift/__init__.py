"""Comparison of two samples of speech."""
