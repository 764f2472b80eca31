"""Runs over spans of new data: similar, mislabelled, and recorded by telephone."""

import dataclasses
import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from components.audio_example_gen.corpora.arrive import arrive
from modules.demo_corpus.corpus import write_corpus
from modules.reporting.summary import RunSummary
from tests.paths import RAVDESS, needs_corpora

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLIPS = {"demo": 24 * 7, "ravdess": 480}
NARROW_RATE_HZ = 8000
MIXED_UP = {"03": "04", "04": "05", "05": "03"}  # RAVDESS's happy, sad and angry
SETTINGS = (
    "ingest.pattern=span-{SPAN}/*/*",
    "augmentation.variants=[plain]",
    "audio.feature_family=utterance",
    "training.family=original_cnn",
    "training.epochs=6",
    "gate.min_adjusted_uar=0",
    "gate.min_slice_adjusted_uar=0",
    "gate.max_uar_loss=1",
    "drift.enabled=true",
)


def recordings(span: Path) -> Iterator[Path]:
    return (path for path in sorted(span.rglob("*")) if path.suffix in (".wav", ".flac"))


def mix_up_labels(span: Path) -> None:
    moves = []
    for file in recordings(span):
        fields = file.stem.split("-")
        fields[2] = MIXED_UP.get(fields[2], fields[2])
        temporary = file.with_suffix(".temporary")
        file.rename(temporary)
        moves.append((temporary, file.with_stem("-".join(fields))))
    for temporary, target in moves:
        temporary.rename(target)


def record_by_telephone(span: Path) -> None:
    for file in recordings(span):
        samples, rate_hz = soundfile.read(file, dtype="float32")
        narrow = soxr.resample(samples, rate_hz, NARROW_RATE_HZ)
        soundfile.write(file, np.clip(narrow, -1, 1), NARROW_RATE_HZ)


@dataclasses.dataclass(frozen=True)
class Run:
    status: int
    summary: RunSummary
    report: str
    versions: list[str]


@pytest.fixture(
    scope="module",
    params=[
        "demo",
        pytest.param("ravdess", marks=needs_corpora),
    ],
)
def corpus(request) -> str:
    return request.param


def start(data: Path, root: Path, *overrides: str) -> Run:
    settings = [argument for setting in (*SETTINGS, *overrides) for argument in ("--set", setting)]
    command = [sys.executable, "runner_local.py", "--data", str(data), "--root", str(root), *settings]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert (root / "summary.json").exists(), finished.stdout + finished.stderr
    return Run(
        status=finished.returncode,
        summary=RunSummary.from_json((root / "summary.json").read_text()),
        report=(root / "report.html").read_text(),
        versions=sorted(path.name for path in (root / "serving").iterdir()),
    )


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory) -> dict[str, Run]:
    """Runs with one root, one after each of three spans."""
    folder = tmp_path_factory.mktemp("continuous")
    if corpus == "demo":
        write_corpus(folder / "reservoir", clips=3 * CLIPS[corpus], seed=0)
    else:
        shutil.copytree(RAVDESS, folder / "reservoir")
    by_name = {}
    for name, change in (("normal", None), ("mislabelled", mix_up_labels), ("telephone", record_by_telephone)):
        span = Path(arrive(str(folder / "reservoir"), str(folder / "data"), clips=CLIPS[corpus]))
        if change:
            change(span)
        by_name[name] = start(folder / "data", folder / "output")
        if not change:
            by_name["repeated"] = start(folder / "data", folder / "output")
    return by_name


def test_the_first_span_has_no_reference_and_is_pushed(runs):
    run = runs["normal"]
    assert run.status == 0
    assert run.summary.verdict.blessed
    assert run.summary.drift[0].not_compared
    assert run.versions == [run.summary.pushed.version]


def test_the_same_span_is_not_compared_with_itself(runs):
    states = {component.name: component.state for component in runs["repeated"].summary.components}
    assert states["DriftMonitor"] == "cached"
    assert runs["repeated"].versions == runs["normal"].versions


def test_drifted_labels_stop_the_run_before_training(runs):
    run = runs["mislabelled"]
    assert run.status == 1
    assert run.summary.run.failed_component == "DriftMonitor"
    (drift,) = run.summary.drift
    assert not any(feature.ks.value > feature.ks.threshold for feature in drift.features), "the sound is unchanged"
    assert "angry" in drift.reasons[0]
    assert drift.reasons[0] in run.summary.run.error
    assert drift.reasons[0] in html.unescape(run.report)
    (written,) = re.findall(r"\S+drift\.json", run.summary.run.error)
    assert json.loads(Path(written).read_text())["comparisons"][0]["report"]["labels_suspect"]
    assert run.summary.evaluation is None
    assert run.versions == runs["normal"].versions


def test_drifted_features_are_in_the_report(runs, corpus):
    run = runs["telephone"]
    assert run.status == 0
    (drift,) = run.summary.drift
    assert drift.drifted
    assert drift.current_clips < CLIPS[corpus], "the training split alone is compared"
    assert any(feature.ks.value > feature.ks.threshold for feature in drift.features)
    assert drift.reasons[0] in html.unescape(run.report)
    assert run.summary.evaluation is not None


def test_the_gate_leaves_out_the_baselines_training_speakers(demo_data, tmp_path):
    data, root = tmp_path / "data", tmp_path / "output"
    late = sorted(path.name for path in demo_data.glob("Actor_*"))[:12]
    shutil.copytree(demo_data, data, ignore=shutil.ignore_patterns(*late))
    settings = ("ingest.pattern=*/*", "gate.min_adjusted_uar=0", "gate.min_slice_adjusted_uar=0")
    first = start(data, root, *settings).summary
    shutil.copytree(demo_data, data, dirs_exist_ok=True)
    second = start(data, root, *settings).summary
    test = second.protocol.speakers["test"]
    excluded = sorted(first.protocol.training_speakers & set(test))
    assert first.verdict.blessed
    assert excluded, "otherwise the gate has nothing to leave out"
    (check,) = [check for check in second.verdict.checks if check.code == "gate.comparable_baseline"]
    assert check.value == len(test) - len(excluded)
    assert list(second.baseline.excluded_speakers) == excluded
    assert second.baseline.speakers == check.value
    assert ", ".join(excluded) in " ".join(second.drift[0].reasons)
