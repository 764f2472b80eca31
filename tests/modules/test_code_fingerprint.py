import shutil
from pathlib import Path

import pytest

from modules import code_fingerprint
from modules.code_fingerprint import is_module

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the code that the fingerprint is taken of."""
    shutil.copytree(ROOT / "modules", tmp_path / "modules", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_fingerprint, "_ROOT", tmp_path)
    return tmp_path


def fingerprint(*modules: str) -> str:
    """Taken anew, as another process does."""
    code_fingerprint._parsed.cache_clear()
    return code_fingerprint.code_fingerprint.__wrapped__(*modules)


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def test_a_copy_is_the_same_code_and_comments_do_not_count(checkout):
    before = code_fingerprint.code_fingerprint("modules.training")
    assert fingerprint("modules.training") == before
    append(checkout / "modules" / "training.py", "\n# a comment\n\n\n")
    assert fingerprint("modules.training") == before


@pytest.mark.parametrize("file", ["training.py", "models/original_cnn.py", "features.py", "settings.py"])
def test_a_line_in_what_is_imported_at_any_depth_counts(checkout, file):
    before = fingerprint("modules.training")
    append(checkout / "modules" / file, "another = 1\n")
    assert fingerprint("modules.training") != before


def test_what_is_not_imported_does_not_count(checkout):
    before = fingerprint("modules.features")
    append(checkout / "modules" / "training.py", "another = 1\n")
    assert fingerprint("modules.features") == before


def test_versions_of_imported_libraries_count(checkout, monkeypatch):
    before = fingerprint("modules.training")
    versions = code_fingerprint.metadata.version
    monkeypatch.setattr(code_fingerprint.metadata, "version", lambda name: "0" if name == "keras" else versions(name))
    assert fingerprint("modules.training") != before
    assert fingerprint("modules.labels") == fingerprint("modules.labels")


def test_several_modules_are_other_code_than_one(checkout):
    assert len({fingerprint("modules.features"), fingerprint("modules.features", "modules.gate")}) == 2


def test_names_of_modules_are_told_from_others():
    assert is_module("modules.models")
    assert is_module("modules.training")
    assert not is_module("modules.training.run_fn")
    assert not is_module("tensorflow")
    assert not is_module("a text. with dots")
    with pytest.raises(ModuleNotFoundError, match=r"modules\.missing"):
        fingerprint("modules.missing")
