"""Errors of the samples that are compared for drift."""

from modules.common.errors import SerError


class UnreadableSample(SerError, ValueError):
    """An address has no data to compare."""

    code = "drift.unreadable_sample"
