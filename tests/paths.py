"""The checkout, and real recordings where `SER_CORPORA` names a folder that has them."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
CORPORA = Path(os.environ.get("SER_CORPORA") or ROOT / "no-corpora")
RAVDESS = CORPORA / "ravdess"
RAVDESS_RATE_HZ = 22_050

needs_corpora = pytest.mark.skipif(not RAVDESS.is_dir(), reason="SER_CORPORA names no folder with RAVDESS recordings")
