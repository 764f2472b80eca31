import dataclasses
import json

import pytest

from modules import training, tuning
from modules.audio_spec import AudioSpec
from modules.settings import TrainingSettings, TuningSettings

SPEC = AudioSpec()


def tuner_args(transformed, folder, settings: TuningSettings, **training_values):
    training_settings = TrainingSettings(batch_size=64, **training_values)
    config = json.loads(json.dumps(tuning.tuner_config(SPEC, training_settings, settings)))
    return transformed.fn_args(training_settings, folder, custom_config=config)


@pytest.fixture(scope="module")
def searched(transformed, tmp_path_factory):
    """A search that has run as TFX's Tuner runs it."""
    settings = TuningSettings(max_trials=2, epochs=1)
    result = tuning.tuner_fn(tuner_args(transformed, tmp_path_factory.mktemp("search"), settings))
    result.tuner.search(**result.fit_kwargs)
    return result.tuner


def test_search_finds_values_of_the_space(searched):
    best = searched.get_best_hyperparameters()[0]
    assert set(best.values) == {"filters", "kernel", "pool", "dropout"}
    assert best.values["filters"] in (16, 32, 64, 128)
    assert len(searched.oracle.get_best_trials(10)) == 2


def test_trainer_takes_what_the_search_found(searched):
    best = searched.get_best_hyperparameters()[0].get_config()
    tuned = training.with_tuned_hyperparameters(TrainingSettings(), json.loads(json.dumps(best)))
    assert tuned.hyperparameters == searched.get_best_hyperparameters()[0].values


def test_search_is_the_same_for_a_seed(transformed, searched, tmp_path, capfd):
    again = tuning.tuner_fn(tuner_args(transformed, tmp_path, TuningSettings(max_trials=1, epochs=1)))
    again.tuner.search(**again.fit_kwargs)
    first, repeated = (next(iter(tuner.oracle.trials.values())) for tuner in (searched, again.tuner))
    assert repeated.hyperparameters.values == first.hyperparameters.values
    assert repeated.score == first.score
    assert capfd.readouterr().err.count("Tuner  trial 1  val_loss") == 1


# KerasTuner itself gives up after three failures in a row, so both sides of that are tried.
@pytest.mark.parametrize(("algorithm", "max_trials"), [("random", 1), ("random", 5), ("bayesian", 1), ("hyperband", 1)])
def test_search_without_a_finished_trial_is_an_error(transformed, tmp_path, algorithm, max_trials):
    settings = TuningSettings(algorithm=algorithm, max_trials=max_trials, epochs=2)
    result = tuning.tuner_fn(tuner_args(transformed, tmp_path, settings))
    result.fit_kwargs["x"] = {"features": result.fit_kwargs["x"]["features"][:, :7]}
    with pytest.raises(tuning.SearchFailed, match=r"(?s)none of \d+ trials finished.*filters.*features"):
        result.tuner.search(**result.fit_kwargs)


def test_one_failed_trial_does_not_end_a_search(transformed, tmp_path):
    result = tuning.tuner_fn(tuner_args(transformed, tmp_path, TuningSettings(max_trials=2, epochs=1)))
    build, built = result.tuner.hypermodel.build, []

    def fail_first(hp):
        built.append(hp)
        if len(built) == 2:  # the first build only reads the search space
            raise ValueError("too large for this machine")
        return build(hp)

    result.tuner.hypermodel.build = fail_first
    result.tuner.search(**result.fit_kwargs)
    statuses = sorted(it.status for it in result.tuner.oracle.trials.values())
    assert statuses == ["COMPLETED", "FAILED"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"algorithm": "grid"}, r"tuner\.algorithm is 'grid'; it must be one of random, bayesian, hyperband"),
        ({"max_trials": 0}, r"tuner\.max_trials is 0; it must be 1 or above"),
        ({"objective": "loss"}, r"tuner\.objective is 'loss'; it must be one of val_loss, val_accuracy"),
    ],
)
def test_settings_say_what_is_allowed(values, message):
    with pytest.raises(ValueError, match=message):
        TuningSettings(**values)


def test_settings_travel_as_json():
    settings = TuningSettings(algorithm="hyperband", epochs=9)
    config = json.loads(json.dumps(tuning.tuner_config(SPEC, TrainingSettings(), settings)))
    assert TuningSettings(**config["tuner"]) == settings
    assert dataclasses.asdict(TrainingSettings()) == config["training"]
