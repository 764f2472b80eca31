from types import SimpleNamespace

import keras_tuner
import numpy as np
import optuna
import pytest

from benchmarks import tuning
from modules.data.splits import TEST
from tests.original import ORIGINAL_TRAINING


def space() -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    tuning.draw(hp)
    return hp


def task(speaker: str) -> SimpleNamespace:
    """Return a fold that leaves out one speaker with 28 clips."""
    left_out = SimpleNamespace(emotion_ids=np.tile(np.arange(7), 4), speakers=np.repeat(np.str_(speaker), 28))
    return SimpleNamespace(splits={TEST: left_out}, budget_epochs=120, settings=ORIGINAL_TRAINING.replace(epochs=6))


def outcome(share_right: float, score: float) -> dict:
    labels = np.tile(np.arange(7), 4)
    predicted = np.where(np.arange(28) < 28 * share_right, labels, (labels + 1) % 7)
    return {"score": score, "answers": 0.1 / 7 + 0.9 * np.eye(7)[predicted]}


def test_optuna_draws_from_the_space_that_kerastuner_searches():
    allowed = {
        "filters": {4, 8, 16, 24},
        "kernel": set(range(3, 11)),
        "dropout": {round(0.05 * steps, 2) for steps in range(1, 11)},
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(200):
        trial = study.ask()
        drawn.append({parameter.name: tuning.suggest(trial, parameter) for parameter in space().space})
        study.tell(trial, 0.0)
    for name, values in allowed.items():
        assert {round(values_of[name], 2) for values_of in drawn} == values
    rates = np.array([values["learning_rate"] for values in drawn])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-2
    assert np.median(rates) == pytest.approx(1e-3, rel=0.5)  # in the middle of a logarithmic scale


def test_the_rate_is_a_setting_the_rest_hyperparameters():
    values = tuning.draw(space())
    settings = tuning.with_values(ORIGINAL_TRAINING.replace(family="original_cnn"), values)
    assert settings.learning_rate == values["learning_rate"]
    assert settings.hyperparameters == {name: value for name, value in values.items() if name != "learning_rate"}


def test_a_budget_reports_no_more_than_its_epochs():
    reported = []
    budget = tuning._Budget(5, reported.append)
    for epochs in (3, 1):
        budget.add(epochs)
        assert not budget.all
    budget.add(6)
    assert budget.all
    budget.add(6)
    assert reported == [3, 1, 1, 0]


def test_report_compares_each_search_with_optuna():
    tasks = [task("one"), task("two"), task("three")]
    results = {
        "bayesian": [outcome(0.5, 1.25), outcome(0.5, 1.5), outcome(0.5, 1.75)],
        "hyperband": [outcome(1.0, 1.0), outcome(0.75, 1.0), outcome(1.0, 1.0)],
        tuning.TPE: [outcome(0.75, 1.0), outcome(1.0, 1.0), outcome(1.0, 1.0)],
    }
    text = tuning.report(tasks, results)
    bayesian, hyperband, tpe = (line.strip("| ").split(" | ") for line in text.splitlines()[2:5])
    assert bayesian[:3] == ["bayesian", "1.250, 1.500, 1.750", "1.500"]
    assert bayesian[3].startswith("50.0 (")
    assert bayesian[4].startswith("-41.7 (")
    assert hyperband[4].startswith("+0.0 (")
    assert tpe[0] == tuning.TPE
    assert len(tpe) == 4
    assert "3 folds, 84 test clips of 3 speakers; 120 epochs for each search in each fold, at most 6" in text
    assert f"Bayesian is significantly worse than {tuning.TPE}." in text
    assert f"Hyperband is not significantly worse than {tuning.TPE}." in text


def test_a_result_is_read_the_second_time(tmp_path, monkeypatch):
    searched = []

    def search(task, folder, advance):
        searched.append(task)
        return {"filters": 4}, 1.5

    monkeypatch.setattr(tuning, "search_optuna", search)
    reported = []
    fold = SimpleNamespace(budget_epochs=7, seed=1)
    first, second = (tuning.search_result(tuning.TPE, fold, tmp_path, reported.append) for _ in range(2))
    assert first == second
    assert (first["values"], first["score"]) == ({"filters": 4}, 1.5)
    assert searched == [fold]
    assert reported == [7]  # a search reports its own epochs
