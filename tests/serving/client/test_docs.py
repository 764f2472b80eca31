"""Errors in docs/guides/serve.md."""

import re

from modules.audio.decoding import AudioCode
from modules.export.signatures import FeatureCode
from tests.paths import ROOT


def test_the_guide_lists_each_code():
    text = (ROOT / "docs" / "guides" / "serve.md").read_text()
    listed = re.findall(r"^\| `((?:AUDIO|FEATURES)_[A-Z_]+)` \|", text, flags=re.MULTILINE)
    assert listed == [*AudioCode, *FeatureCode]
