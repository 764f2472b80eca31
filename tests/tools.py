"""Programs that `make test` unpacks or installs into .setup, and that a test run without it may lack."""

import os
from pathlib import Path

import pytest

from tests.paths import ROOT

SETUP = ROOT / ".setup"


def tool(path: str) -> Path:
    """Return a program below .setup; skip the test without it, but fail under `make test`, which sets it up."""
    program = SETUP / path
    if not program.exists():
        missing = f".setup/{path} is missing; `make .setup/{Path(path).parts[0]}/.ready` sets it up"
        assert not os.environ.get("SER_NEEDS_TOOLS"), missing
        pytest.skip(missing)
    return program
