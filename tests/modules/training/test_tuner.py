import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_transform as tft

from modules.data.dataset import Split, read_split
from modules.training import trainer, tuner
from modules.training.batches import TrainingBatches
from modules.training.settings import TuningSettings
from modules.training.trials import TrialRecord, TrialRecords
from tests.modules.training import tiny_search
from tests.original import ORIGINAL_AUDIO, ORIGINAL_TRAINING

SPEC = ORIGINAL_AUDIO
HYPERBAND = TuningSettings(algorithm="hyperband", epochs=3)  # three trials of one epoch, the best for three, two more


def tuner_args(transformed, folder, settings: TuningSettings, **training_values):
    training_settings = ORIGINAL_TRAINING.replace(batch_size=64, **training_values)
    config = json.loads(json.dumps(tuner.tuner_config(SPEC, training_settings, settings)))
    return transformed.fn_args(training_settings, folder, custom_config=config)


def search(fn_args) -> tuner.Search:
    """Run the search as TFX's Tuner does."""
    result = tuner.tuner_fn(fn_args)
    result.tuner.search(**result.fit_kwargs)
    return result.tuner


def outcomes(tuner: tuner.Search) -> list[tuple]:
    trials = sorted(tuner.oracle.trials.items())
    return [(trial.hyperparameters.values, trial.score, trial.status) for _, trial in trials]


@pytest.fixture(scope="module")
def searched(transformed, tmp_path_factory):
    """A finished search, run as TFX's Tuner does."""
    return search(tuner_args(transformed, tmp_path_factory.mktemp("search"), TuningSettings(max_trials=2, epochs=1)))


def test_search_finds_values_of_the_space(searched):
    best = searched.get_best_hyperparameters()[0]
    assert set(best.values) == {"filters", "kernel", "pool", "dropout"}
    assert best.values["filters"] in (16, 32, 64, 128)
    assert len(searched.oracle.get_best_trials(10)) == 2


def test_the_trainer_uses_the_best_hyperparameters(searched):
    best = searched.get_best_hyperparameters()[0].get_config()
    tuned = trainer.with_tuned_hyperparameters(ORIGINAL_TRAINING, json.loads(json.dumps(best)))
    assert tuned.hyperparameters == searched.get_best_hyperparameters()[0].values


def test_search_is_the_same_for_a_seed(transformed, searched, tmp_path, capfd):
    again = search(tuner_args(transformed, tmp_path, TuningSettings(max_trials=2, epochs=1)))
    assert outcomes(again) == outcomes(searched)
    assert capfd.readouterr().err.count("Tuner  trial 2  val_loss") == 1


def search_tiny(folder: Path, **values) -> tuner.Search:
    return tiny_search.search(str(folder), TuningSettings(epochs=1, **values))


def test_another_seed_searches_elsewhere(tmp_path):
    first, other = (search_tiny(tmp_path / str(seed), max_trials=1, seed=seed) for seed in (0, 1))
    assert outcomes(first)[0][0] != outcomes(other)[0][0]


def test_a_longer_bayesian_search_continues_a_shorter_one(tmp_path):
    """From the seventh trial on, the Gaussian process proposes; its random state must be restored."""
    whole = search_tiny(tmp_path / "whole", algorithm="bayesian", max_trials=8)
    search_tiny(tmp_path / "halted", algorithm="bayesian", max_trials=7)
    resumed = search_tiny(tmp_path / "halted", algorithm="bayesian", max_trials=8)
    assert outcomes(resumed) == outcomes(whole)
    assert len(list((tmp_path / "halted").rglob("trials/*.json"))) == 8


@pytest.fixture(scope="module")
def whole_hyperband(tmp_path_factory):
    return tiny_search.search(str(tmp_path_factory.mktemp("whole")), HYPERBAND)


def kill_after_trial(number: int, folder: Path, settings: TuningSettings) -> None:
    """Send SIGKILL as soon as the search reports that this number of trials has ended."""
    command = [
        sys.executable,
        "-m",
        "tests.modules.training.tiny_search",
        str(folder),
        json.dumps(settings.model_dump()),
    ]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith(f"Tuner  trial {number} "):
                process.send_signal(signal.SIGKILL)
                break
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_search_continues(whole_hyperband, tmp_path, capfd):
    """The fourth trial continues with the weights of one of the three that ended before the kill."""
    kill_after_trial(3, tmp_path, HYPERBAND)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("trials/*.json")}
    resumed = tiny_search.search(str(tmp_path), HYPERBAND)
    assert outcomes(resumed) == outcomes(whole_hyperband)
    assert capfd.readouterr().err.count("(trained before)") == len(kept) >= 3
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(tmp_path.rglob("trials/*.json"))) == 6


def some_split(**values) -> Split:
    rng = np.random.default_rng(0)
    clips = {
        "features": rng.normal(size=(4, 270)).astype(np.float32),
        "valid_frames": np.full(4, 9, np.int32),
        "emotion_ids": np.arange(4, dtype=np.int32),
        "speakers": np.array(["a", "a", "b", "b"]),
        "corpora": np.full(4, "toy"),
    }
    return Split(**(clips | values))


def key(training_values=(), tuner_values=(), spec=SPEC, **split_values) -> str:
    training_settings, settings = (
        ORIGINAL_TRAINING.replace(**dict(training_values)),
        TuningSettings(**dict(tuner_values)),
    )
    return tuner.search_key(training_settings, settings, spec, some_split(), some_split(**split_values))


@pytest.mark.parametrize(
    "changed",
    [
        {"training_values": {"learning_rate": 0.002}},
        {"training_values": {"hyperparameters": {"filters": 32}}},
        {"tuner_values": {"algorithm": "bayesian"}},
        {"tuner_values": {"epochs": 7}},
        {"tuner_values": {"seed": 1}},
        {"spec": ORIGINAL_AUDIO.replace(window_sec=2.0)},
        {"emotion_ids": np.array([0, 1, 2, 4], np.int32)},
        {"features": np.zeros((4, 270), np.float32)},
    ],
)
def test_changed_inputs_start_another_search(changed):
    assert key(**changed) != key()


def test_more_trials_or_renamed_speakers_make_no_other_search():
    assert key(tuner_values={"max_trials": 50, "enabled": True}) == key()
    assert key(speakers=np.array(["a", "b", "c", "d"])) == key()


def test_other_weights_of_the_clips_start_another_search():
    assert key(training_values={"balance": "speaker"}) != key()
    settings = ORIGINAL_TRAINING.replace(balance="speaker")
    keys = [
        tuner.search_key(settings, TuningSettings(), SPEC, some_split(speakers=np.array(speakers)), some_split())
        for speakers in (["a", "a", "b", "b"], ["c", "c", "d", "d"], ["a", "a", "a", "b"])
    ]
    assert keys[0] == keys[1] != keys[2]


def test_an_outcome_is_given_for_its_own_values_alone(tmp_path):
    records = TrialRecords(str(tmp_path))
    record = TrialRecord(values={"filters": 8, "dropout": 0.1}, history={"val_loss": [1.0, 0.5]}, seconds=2.0)
    records.add(record)
    assert records.find({"dropout": 0.1, "filters": 8}) == record
    assert records.find({"dropout": 0.2, "filters": 8}) is None


def test_trials_are_scored_on_unseen_speakers(searched):
    splits = tuner.search_report(searched)["splits"]
    assert splits == {
        "train_examples": 84,
        "eval_clips": 28,
        "train_speakers": 1,
        "eval_speakers": 1,
        "speakers_in_both": 0,
    }


def test_the_report_has_the_curve_of_every_trial(whole_hyperband):
    report = json.loads(json.dumps(tuner.search_report(whole_hyperband)))
    trials = report["trials"]
    assert [trial["name"] for trial in trials] == ["1", "2", "3", "4", "5", "6"]
    assert [len(trial["history"]["val_loss"]) for trial in trials] == [1, 1, 1, 2, 3, 3]
    assert [trial["first_epoch"] for trial in trials] == [1, 1, 1, 2, 1, 1]  # the fourth goes on with the best of three
    assert all(trial["score"] == min(trial["history"]["val_loss"]) for trial in trials)
    assert all(set(trial["hyperparameters"]) == {"dropout", "rate"} for trial in trials)


def test_tfx_publishes_the_best_trials_of_hyperband(whole_hyperband, tmp_path):
    """TFX requests up to `max_trials` best trials, which Hyperband does not have."""
    from tfx.components.tuner import executor
    from tfx.types import standard_artifacts

    outputs = {
        "best_hyperparameters": [standard_artifacts.HyperParameters()],
        "tuner_results": [standard_artifacts.TunerResults()],
    }
    for name, (artifact,) in outputs.items():
        artifact.uri = str(tmp_path / name)
    executor.write_best_hyperparameters(whole_hyperband, outputs)
    assert len(json.loads((tmp_path / "tuner_results" / "tuner_results.json").read_text())) == 6
    best = json.loads((tmp_path / "best_hyperparameters" / "best_hyperparameters.txt").read_text())
    assert best["values"] == min(outcomes(whole_hyperband), key=lambda outcome: outcome[1])[0]


def test_weights_are_kept_while_a_trial_may_go_on_with_them(tmp_path):
    tuner = search_tiny(tmp_path, max_trials=2)
    assert len(list(tmp_path.rglob("*.weights.h5"))) == 2
    tuner.delete_weights()
    assert not list(tmp_path.rglob("*.weights.h5"))
    assert len(list(tmp_path.rglob("trials/*.json"))) == 2


# KerasTuner itself gives up after three failures in a row, so both sides of that are tried.
@pytest.mark.parametrize(("algorithm", "max_trials"), [("random", 1), ("random", 5), ("bayesian", 1), ("hyperband", 1)])
def test_search_without_a_finished_trial_is_an_error(transformed, tmp_path, algorithm, max_trials):
    settings = TuningSettings(algorithm=algorithm, max_trials=max_trials, epochs=2)
    result = tuner.tuner_fn(tuner_args(transformed, tmp_path, settings))
    train = read_split(transformed.train_files, tft.TFTransformOutput(transformed.graph_dir), transformed.spec)
    narrow = dataclasses.replace(train, features=train.features[:, :7])
    result.fit_kwargs["x"] = TrainingBatches(narrow, batch_size=8, mixup=0, seed=0)
    with pytest.raises(tuner.SearchFailed, match=r"(?s)\d+ trials.*filters.*features"):
        result.tuner.search(**result.fit_kwargs)


def test_one_failed_trial_does_not_end_a_search(transformed, tmp_path):
    result = tuner.tuner_fn(tuner_args(transformed, tmp_path, TuningSettings(max_trials=2, epochs=1)))
    build, built = result.tuner.hypermodel.build, []

    def fail_first(hp):
        built.append(hp)
        if len(built) == 2:
            raise ValueError("too large for this machine")
        return build(hp)

    result.tuner.hypermodel.build = fail_first
    result.tuner.search(**result.fit_kwargs)
    completed, failed = tuner.search_report(result.tuner)["trials"]
    assert (failed["status"], failed["score"]) == ("failed", None)
    assert failed["failure"] == "ValueError: too large for this machine"
    assert completed["status"] == "completed"


def test_settings_travel_as_json():
    settings = TuningSettings(algorithm="hyperband", epochs=9)
    config = json.loads(json.dumps(tuner.tuner_config(SPEC, ORIGINAL_TRAINING, settings)))
    assert TuningSettings(**config["tuner"]) == settings
    assert ORIGINAL_TRAINING.model_dump() == config["training"]
