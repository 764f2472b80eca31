"""A pushed model for batches."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def base(tmp_path_factory, push) -> Path:
    folder = tmp_path_factory.mktemp("pushed")
    push(folder, 3)
    return folder
