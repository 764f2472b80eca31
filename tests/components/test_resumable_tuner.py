import json

import pytest

from components.resumable_tuner.executor import searches_folder
from components.run_report import gather

CONFIG = {"tuner": {"algorithm": "hyperband", "objective": "val_accuracy"}}


@pytest.fixture
def results(tmp_path):
    """Results of TFX's own Tuner."""
    trials = [
        {"trial_id": "0001", "score": 0.5, "filters": 8, "tuner/epochs": 3},
        {"trial_id": "0000", "score": 0.4, "filters": 16, "tuner/epochs": 1},
    ]
    (tmp_path / "tuner_results.json").write_text(json.dumps(trials))
    return tmp_path


def test_searches_are_not_in_the_folder_of_an_execution():
    assert searches_folder("output/artifacts/Tuner/tuner_results/7") == "output/artifacts/Tuner/searches"
    assert searches_folder("gs://bucket/run/Tuner/tuner_results/8/") == "gs://bucket/run/Tuner/searches"


def test_finished_trials_of_tfx_are_read(results):
    tuning = gather.tuning(str(results), CONFIG)
    assert [(trial.name, trial.score, trial.hyperparameters) for trial in tuning.trials] == [
        ("2", 0.5, {"filters": 8}),
        ("1", 0.4, {"filters": 16}),
    ]
    assert tuning.higher_is_better
    assert tuning.splits is None


def test_every_trial_is_read_with_its_curve(results):
    splits = {
        "train_examples": 84,
        "eval_clips": 28,
        "train_speakers": 2,
        "eval_speakers": 1,
        "speakers_in_both": 0,
    }
    finished = {
        "name": "1",
        "status": "completed",
        "score": 0.5,
        "hyperparameters": {"filters": 8},
        "first_epoch": 2,
        "history": {"val_accuracy": [0.3, 0.5], "loss": [2.0, 1.0]},
        "seconds": 3.0,
        "failure": "",
    }
    failed = finished | {"name": "2", "status": "failed", "score": None, "history": {}, "failure": "ValueError: no"}
    report = {"objective": "val_accuracy", "splits": splits, "trials": [finished, failed]}
    (results / "trials.json").write_text(json.dumps(report))
    tuning = gather.tuning(str(results), CONFIG)
    assert [trial.curve for trial in tuning.trials] == [(0.3, 0.5), ()]
    assert tuning.trials[0].first_epoch == 2
    assert tuning.trials[1].failure == "ValueError: no"
    assert tuning.splits.train_speakers == 2
    assert [trial.name for trial in tuning.ranked] == ["1", "2"]
