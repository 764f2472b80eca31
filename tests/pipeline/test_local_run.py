"""A local run of the whole DAG, and later runs with the same output folder."""

import csv
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf
from sklearn.metrics import recall_score
from tfx.orchestration import metadata

from cli.exits import ExitCode
from cli.main import main
from modules.export.contract import EXTRA_ASSETS
from modules.reporting.model_card import DEMO_LIMIT, ModelCard
from modules.reporting.summary import RunSummary
from pipeline import default_family
from pipeline.config import load_config
from pipeline.lineage import latest_run
from pipeline.run_lock import exclusive
from tests.beam_processes import wait_for_workers
from tests.conftest import LocalRun
from tests.paths import ROOT

NODES = [
    "AudioExampleGen",
    "CuratedSchema",
    "StatisticsGen",
    "ExampleValidator",
    "AnomalyGate",
    "Transform",
    "Trainer",
    "BaselineResolver",
    "ServingValidator",
    "GatedEvaluator",
    "Pusher",
    "RunReport",
]


def summary_of(run) -> RunSummary:
    return RunSummary.from_json((run.root / "summary.json").read_text())


def states(run) -> dict[str, str]:
    return {component.name: component.state for component in summary_of(run).components}


def versions(run) -> list[str]:
    return sorted(path.name for path in (run.root / "serving").iterdir())


def test_the_summary_has_components_checks_and_metrics(local_run):
    summary = summary_of(local_run)
    assert summary.run.status == "completed"
    assert [component.name for component in summary.components] == NODES
    assert summary.verdict.blessed
    checks = {(check.code, check.name) for check in summary.verdict.checks}
    slices = {("gate.slice_uar", f"UAR of {name}") for name in ("corpus demo", "sex female")}
    assert checks >= {("gate.uar", "UAR"), *slices, ("serving.grpc_answers", "Answers over gRPC")}
    uar = summary.evaluation.metric("uar")
    assert uar.low <= uar.value <= uar.high
    assert uar.resampled == "speakers"
    assert [uar.value] == [check.value for check in summary.verdict.checks if check.code == "gate.uar"]
    with (local_run.root / "predictions.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == summary.evaluation.clips
    labels, predicted = ([row[name] for row in rows] for name in ("emotion", "predicted"))
    assert recall_score(labels, predicted, average="macro") == pytest.approx(uar.value)


def test_each_speaker_is_in_one_split(local_run):
    speakers = summary_of(local_run).protocol.speakers
    assert all(speakers.values())
    assert sum(map(len, speakers.values())) == len(set().union(*speakers.values())) == 24


def test_the_report_has_the_pushed_version(local_run):
    html = (local_run.root / "report.html").read_text()
    assert "<html" in html
    assert summary_of(local_run).pushed.version in html


def test_each_run_keeps_its_report(local_run):
    newest = max((local_run.root / "runs").iterdir())
    for name in ("summary.json", "predictions.csv"):
        assert (newest / name).read_text() == (local_run.root / name).read_text()
    assert summary_of(local_run).pushed.version in (newest / "report.html").read_text()


def test_parameters_and_metrics_are_in_ml_metadata(local_run):
    summary = summary_of(local_run)
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(local_run.root / "metadata.sqlite"))) as kept:
        report = latest_run(kept.store, summary.run.name)["RunReport"].output("report")
    uar = summary.evaluation.metric("uar")
    kept_uar = [report.custom_properties[f"metric.test_uar{bound}"].double_value for bound in ("", "_low", "_high")]
    assert kept_uar == pytest.approx([uar.value, uar.low, uar.high], abs=1e-6)  # kept rounded
    assert report.custom_properties["param.training.epochs"].int_value == 6
    assert report.custom_properties["param.pushed_version"].string_value == summary.pushed.version
    assert [(logged.where, logged.error) for logged in summary.logged] == [("ML Metadata", None)]


def test_the_pushed_model_predicts_a_recording(local_run):
    (version,) = versions(local_run)
    model = tf.saved_model.load(str(local_run.root / "serving" / version))
    clip = min(local_run.data.rglob("*.wav"))
    answer = model.signatures["serving_default"](audio=tf.constant([clip.read_bytes()]))
    assert answer["probabilities"].shape == (1, 7)
    assert float(tf.reduce_sum(answer["probabilities"])) == pytest.approx(1, abs=1e-5)


def test_recordings_of_the_training_adapt_the_pushed_model_to_what_it_knows(local_run, tmp_path):
    words = ["adapt", str(local_run.data), "--model-base-path", str(local_run.root / "serving"), "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    (version,) = tmp_path.iterdir()
    model = tf.saved_model.load(str(version))
    np.testing.assert_allclose(model.adaptation_scale, 1, atol=0.1)
    np.testing.assert_allclose(model.adaptation_offset, 0, atol=0.1)
    card = ModelCard.model_validate_json((version / EXTRA_ASSETS / "model_card.json").read_text())
    assert [str(card.adapted.version)] == versions(local_run)
    assert card.adapted.recordings == len(list(local_run.data.rglob("*.wav")))
    assert DEMO_LIMIT in (version / EXTRA_ASSETS / "model_card.md").read_text()


def test_the_model_card_is_pushed_with_the_model(local_run):
    (version,) = versions(local_run)
    assets = local_run.root / "serving" / version / "assets.extra"
    card = json.loads((assets / "model_card.json").read_text())
    assert [corpus["title"] for corpus in card["corpora"]] == ["Demo corpus"]
    assert card["network"]["family"] == summary_of(local_run).training.family
    assert DEMO_LIMIT in (assets / "model_card.md").read_text()
    (uar,) = [metric["value"] for metric in card["metrics"] if metric["name"] == "uar"]
    assert uar == summary_of(local_run).evaluation.metric("uar").value


def test_an_unchanged_run_is_cached(local_run):
    before = versions(local_run)
    assert local_run.start().returncode == 0
    redone = {name for name, state in states(local_run).items() if state != "cached"}
    # A resolver looks up and a gate checks; neither makes anything.
    assert redone <= {"BaselineResolver", "AnomalyGate"}
    assert versions(local_run) == before


@pytest.fixture(scope="module")
def retrained(local_run):
    """Run with the same output folder, a search and more epochs."""
    search = ("tuner.enabled=true", "tuner.max_trials=2", "tuner.epochs=1")
    run = dataclasses.replace(local_run, overrides=(*local_run.overrides, "training.epochs=7", *search))
    finished = run.start()
    assert finished.returncode == 0, finished.stderr
    return run


def test_a_change_of_the_model_reuses_ingest_and_transform(retrained):
    state_of = states(retrained)
    assert {state_of[name] for name in NODES[:6] if name != "AnomalyGate"} == {"cached"}
    assert state_of["Trainer"] == state_of["GatedEvaluator"] == "ran"


def test_the_best_hyperparameters_are_trained(retrained):
    summary = summary_of(retrained)
    assert len(summary.tuning.trials) == 2
    best = summary.tuning.ranked[0]
    assert best.score is not None
    assert best.hyperparameters.items() <= summary.training.hyperparameters.items()
    assert [len(trial.curve) for trial in summary.tuning.trials] == [1, 1]
    assert summary.tuning.splits.speakers_in_both == 0
    assert "val_loss per epoch" in (retrained.root / "report.html").read_text()


def test_the_best_hyperparameters_are_written_as_a_file(retrained):
    kept = load_config(retrained.root / "tuned.yaml")
    trained_with = summary_of(retrained).training.hyperparameters
    assert kept.training.hyperparameters == trained_with
    assert kept.replace(training=kept.training.replace(hyperparameters={})) == load_config(
        overrides=[*retrained.overrides, "tuner.enabled=false"], family=default_family.on_this_machine().name
    )


def test_a_second_model_is_compared_with_the_baseline(retrained):
    summary = summary_of(retrained)
    first = summary.history[0]
    assert first.blessed
    assert first.uar == next(each.baseline for each in summary.baseline.differences if each.name == "uar")
    assert "gate.uar_loss" in {check.code for check in summary.verdict.checks}
    difference = next(each for each in summary.baseline.differences if each.name == "uar")
    check = next(check for check in summary.verdict.checks if check.code == "gate.uar_loss")
    assert check.value == pytest.approx(difference.difference, abs=1e-6)
    # The speakers of the blessed model's splits are part of its blessing, which ML Metadata names.
    (check,) = [check for check in summary.verdict.checks if check.code == "gate.comparable_baseline"]
    speakers = len(summary.protocol.speakers["test"])
    assert check.passed
    assert check.value == speakers


def test_a_candidate_below_the_floor_is_not_pushed(retrained):
    before = versions(retrained)
    strict = dataclasses.replace(retrained, overrides=(*retrained.overrides, "gate.min_adjusted_uar=0.999"))
    finished = strict.start()
    assert finished.returncode == 0
    summary = summary_of(strict)
    assert not summary.verdict.blessed
    assert "gate.uar" in {check.code for check in summary.verdict.checks if not check.passed}
    assert summary.verdict.reasons[0] in finished.stdout
    assert summary.pushed.version is None
    assert versions(strict) == before


def test_an_override_pushes_a_rejected_model(retrained):
    before = versions(retrained)
    override = ("gate.min_adjusted_uar=0.999", "gate.override=Ada: only to see it served")
    forced = dataclasses.replace(retrained, overrides=(*retrained.overrides, *override))
    assert forced.start().returncode == 0
    summary = summary_of(forced)
    assert summary.verdict.blessed
    assert summary.verdict.override == "Ada: only to see it served"
    assert "gate.uar" in {check.code for check in summary.verdict.checks if not check.passed}
    assert summary.verdict.override in (forced.root / "report.html").read_text()
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(forced.root / "metadata.sqlite"))) as kept:
        blessing = latest_run(kept.store, summary.run.name)["GatedEvaluator"].output("blessing")
    assert blessing.custom_properties["gate_override"].string_value == "Ada: only to see it served"
    assert blessing.custom_properties["blessed"].int_value == 1
    assert summary.pushed.version in versions(forced)
    assert set(versions(forced)) >= set(before)


def _start_and_kill(run, component: str) -> None:
    """Send SIGKILL as soon as the component runs."""
    process = subprocess.Popen(run.command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
    with process:
        for line in process.stderr:
            if line.rstrip().endswith(f"] {component}"):
                process.send_signal(signal.SIGKILL)
                break
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL, f"{component} did not start"


@pytest.mark.parametrize(
    "components", [["AudioExampleGen", "Trainer"], pytest.param(NODES, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_the_run_after_a_kill_completes(local_run, tmp_path, components):
    run = dataclasses.replace(local_run, root=tmp_path)
    for component in components:
        _start_and_kill(run, component)
        if NODES.index(component) < NODES.index("Pusher"):
            assert not [path for path in (run.root / "serving").glob("*") if path.name.isdigit()]
    assert run.start().returncode == 0
    assert summary_of(run).verdict.blessed
    assert len(versions(run)) == 1


def test_ctrl_c_ends_a_run_without_a_verdict(local_run, tmp_path):
    run = dataclasses.replace(local_run, root=tmp_path)
    heeded = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", heeded, *run.command]  # a shell's background jobs ignore Ctrl-C
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        next(line for line in process.stderr if "clips" in line)  # within Beam, which raises RuntimeError for it
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=180)
    assert process.returncode == ExitCode.INTERRUPTED
    assert printed == ""
    assert errors.endswith("runner_local.py: interrupted\n")


def test_a_lost_worker_process_ends_the_run(demo_data, tmp_path):
    run = LocalRun(demo_data, tmp_path / "output", ("beam.mode=multi_processing", "beam.workers=2"))
    with subprocess.Popen(run.command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        workers = wait_for_workers(process)
        workers[0].kill()
        assert process.wait(timeout=180) == 1
    assert summary_of(run).run.failed_component == "AudioExampleGen"
    assert "a worker process of Beam's local runner was lost" in summary_of(run).run.error
    assert psutil.wait_procs(workers, timeout=10)[1] == []


def test_two_runs_in_one_root_are_refused(local_run):
    with exclusive(local_run.root):
        refused = local_run.start()
    assert refused.returncode == 2
    assert str(local_run.root) in refused.stderr
    assert "Loading" not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_examples_are_exported_without_messages_of_tensorflow(local_run, tmp_path):
    command = [sys.executable, "-c", "from cli.main import main; main()", "corpus", "export"]
    options = ["--root", str(local_run.root), "--out"]
    exported = subprocess.run([*command, *options, str(tmp_path / "x.parquet")], capture_output=True, text=True)
    assert (exported.returncode, exported.stderr) == (0, "")
    assert (tmp_path / "x.parquet").stat().st_size
    refused = subprocess.run([*command, *options, str(tmp_path)], capture_output=True, text=True)
    assert refused.returncode == ExitCode.REFUSED
    assert f"--out {tmp_path} is not a file" in refused.stderr


def test_bad_input_is_refused_before_tfx_is_loaded(local_run, tmp_path):
    for run, cause in (
        (dataclasses.replace(local_run, data=tmp_path / "none"), f"--data {tmp_path / 'none'}"),
        (dataclasses.replace(local_run, overrides=("training.epoch=1",)), "training.epochs"),
        (dataclasses.replace(local_run, root=local_run.data / "output"), f"--root {local_run.data / 'output'}"),
    ):
        refused = run.start()
        assert refused.returncode == 2
        assert cause in refused.stderr
        assert "Loading" not in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_failed_run_has_a_report_with_the_cause(tmp_path, local_run):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("no sound")
    failed = dataclasses.replace(local_run, data=tmp_path / "data", root=tmp_path / "output")
    assert failed.start().returncode == 1
    summary = summary_of(failed)
    assert summary.run.failed_component == "AudioExampleGen"
    assert json.loads((failed.root / "summary.json").read_text())["run"]["error"]
    assert "AudioExampleGen" in (failed.root / "report.html").read_text()
