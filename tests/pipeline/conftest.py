"""The configuration of the golden pipeline, and its compilation."""

import json
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.vertex.config import VertexConfig

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden_config() -> VertexConfig:
    return load_config(GOLDEN / "vertex.yaml", tree=VertexConfig)


@pytest.fixture(scope="session")
def golden_job() -> dict:
    return json.loads((GOLDEN / "vertex_pipeline.json").read_text())
