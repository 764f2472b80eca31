"""Batch scoring: the answers of a pushed version to a folder of recordings, by Apache Beam."""
