"""Clips, labels, splits and examples."""
