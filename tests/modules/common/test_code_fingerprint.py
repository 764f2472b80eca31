import shutil
from pathlib import Path

import pytest

from modules.common import code_fingerprint
from modules.common.code_fingerprint import is_module

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the code whose fingerprint is computed."""
    shutil.copytree(ROOT / "modules", tmp_path / "modules", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_fingerprint, "_ROOT", tmp_path)
    return tmp_path


def fingerprint(*modules: str) -> str:
    """Compute the fingerprint as another process does."""
    code_fingerprint._parsed.cache_clear()
    return code_fingerprint.code_fingerprint.__wrapped__(*modules)


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def test_comments_do_not_count(checkout):
    before = code_fingerprint.code_fingerprint("modules.training.trainer")
    assert fingerprint("modules.training.trainer") == before
    append(checkout / "modules" / "training" / "trainer.py", "\n# a comment\n\n\n")
    assert fingerprint("modules.training.trainer") == before


@pytest.mark.parametrize(
    "file", ["training/trainer.py", "models/original_cnn.py", "audio/decoding.py", "training/settings.py"]
)
def test_imported_code_counts(checkout, file):
    before = fingerprint("modules.training.trainer")
    append(checkout / "modules" / file, "another = 1\n")
    assert fingerprint("modules.training.trainer") != before


def test_other_code_does_not_count(checkout):
    before = fingerprint("modules.audio.features")
    append(checkout / "modules" / "training" / "trainer.py", "another = 1\n")
    assert fingerprint("modules.audio.features") == before


def test_versions_of_imported_libraries_count(checkout, monkeypatch):
    before = fingerprint("modules.training.trainer")
    versions = code_fingerprint.metadata.version
    monkeypatch.setattr(code_fingerprint.metadata, "version", lambda name: "0" if name == "keras" else versions(name))
    assert fingerprint("modules.training.trainer") != before
    assert fingerprint("modules.data.labels") == fingerprint("modules.data.labels")


def test_more_modules_give_another_fingerprint(checkout):
    features, gate = "modules.audio.features", "modules.evaluation.gate"
    assert fingerprint(features) != fingerprint(features, gate)


def test_is_module():
    assert is_module("modules.models")
    assert is_module("modules.training.trainer")
    assert not is_module("modules.training.trainer.run_fn")
    assert not is_module("tensorflow")
    assert not is_module("a text. with dots")
    with pytest.raises(ModuleNotFoundError, match=r"modules\.missing"):
        fingerprint("modules.missing")
