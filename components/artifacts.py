"""Types of the arguments of an executor's ``Do``."""

from typing import Any

from tfx import types

Artifacts = dict[str, list[types.Artifact]]
"""Of each input or output, by the name that it has in the component's specification."""

Properties = dict[str, Any]
"""Execution properties by name; protocol buffers among them are JSON."""
