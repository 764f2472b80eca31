"""Shared fixtures: recordings, where there are any, and one finished run of the pipeline."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "4")  # as in the image

# The first call of an operation of TensorFlow takes longer than the later ones, most of all on a busy machine.
hypothesis.settings.register_profile("ser", deadline=None)
hypothesis.settings.load_profile("ser")

# Runs of whole pipelines, by the fixtures that hold them.
LONGEST = ("chain", "local_run")


def pytest_collection_modifyitems(config, items):
    """Put files with the longest first, for ``pytest -n 2 --dist loadfile --no-loadscope-reorder``.

    No process is left alone with one of them at the end, and who looks at the same run is likely to share a process.
    """
    if hasattr(config, "workerinput"):
        place = {item.path: LONGEST.index(name) for name in LONGEST for item in items if name in item.fixturenames}
        items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Cloud Storage on this machine with the buckets ``data`` and ``models``."""
    from tests.fakes.storage import FakeStorage

    with FakeStorage(tmp_path, "data", "models") as served:
        for name, value in served.environ.items():
            monkeypatch.setenv(name, value)
        yield served


@dataclass(frozen=True)
class LocalRun:
    """A run of ``runner_local.py`` as a user starts it."""

    data: Path
    root: Path
    overrides: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        settings = [argument for override in self.overrides for argument in ("--set", override)]
        return [sys.executable, "runner_local.py", "--data", str(self.data), "--root", str(self.root), *settings]

    def start(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """A small demo corpus: every emotion of every one of its 24 speakers, twice."""
    from modules.demo_corpus.corpus import write_corpus

    folder = tmp_path_factory.mktemp("demo") / "corpus"
    write_corpus(folder, clips=24 * 7 * 2, seed=0)
    return folder


@pytest.fixture(scope="session")
def local_run(demo_data, tmp_path_factory) -> LocalRun:
    """One run of the whole DAG on the demo corpus, with few epochs and a gate that the model can pass."""
    run = LocalRun(
        data=demo_data,
        root=tmp_path_factory.mktemp("run") / "output",
        overrides=(
            "training.epochs=6",
            "gate.min_adjusted_uar=0",
            "gate.min_slice_adjusted_uar=0",
            "augmentation.variants=[plain]",
        ),
    )
    finished = run.start()
    assert finished.returncode == 0, finished.stderr + finished.stdout
    return run
