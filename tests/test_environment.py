"""Messages of the set-up on a system that lacks its programs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
NEEDED_TO_SPEAK = ("bash", "dirname", "env", "uname")


@pytest.fixture
def bare(tmp_path):
    """A checkout, and a folder of programs that is all of PATH."""
    shutil.copytree(REPOSITORY / "environment", tmp_path / "checkout" / "environment")
    (tmp_path / "bin").mkdir()
    for name in NEEDED_TO_SPEAK:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    return tmp_path


def set_up(bare, **environment):
    return subprocess.run(
        [bare / "checkout" / "environment" / "setup.sh"],
        env={"PATH": str(bare / "bin"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_all_that_is_missing_is_named_at_once(bare):
    done = set_up(bare)
    assert done.returncode == 1
    assert done.stderr.endswith("lacks g++ python3-venv. On Debian and Ubuntu: apt install g++ python3-venv\n")


def test_a_python_3_11_under_another_name_is_used(bare):
    done = set_up(bare, PYTHON=os.path.realpath(sys._base_executable))
    assert done.stderr.endswith("lacks g++. On Debian and Ubuntu: apt install g++\n")


def test_a_python_that_is_named_and_does_not_run_is_refused(bare):
    done = set_up(bare, PYTHON="python4")
    assert done.returncode == 1
    assert "PYTHON is 'python4'" in done.stderr
    assert "3.11" in done.stderr


def test_where_something_is_missing_nothing_is_left_behind(bare):
    set_up(bare)
    assert [path.name for path in (bare / "checkout").iterdir()] == ["environment"]
