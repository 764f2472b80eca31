"""The search for hyperparameters: what TFX's Tuner calls."""

import dataclasses
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import keras_tuner
import tensorflow_transform as tft
from keras_tuner.engine import trial as kt_trial

from modules import training
from modules.audio_spec import AudioSpec
from modules.dataset import read_split
from modules.settings import TrainingSettings, TuningSettings


class SearchFailed(RuntimeError):
    """No trial of a search came to its end, so there are no best hyperparameters."""


class TunerFnResult(NamedTuple):
    """What TFX's Tuner wants back, field by field."""

    tuner: keras_tuner.engine.base_tuner.BaseTuner
    fit_kwargs: dict[str, Any]


def tuner_config(spec: AudioSpec, training_settings: TrainingSettings, settings: TuningSettings) -> dict[str, Any]:
    """The ``custom_config`` that :func:`tuner_fn` wants of the Tuner component."""
    return training.trainer_config(spec, training_settings) | {"tuner": dataclasses.asdict(settings)}


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """A search over the family's own space, for TFX's Tuner to run.

    ``fn_args.custom_config`` is :func:`tuner_config`'s.
    """
    spec, training_settings = training.read_config(fn_args.custom_config)
    settings = TuningSettings(**fn_args.custom_config["tuner"])
    training_settings = dataclasses.replace(training_settings, epochs=settings.epochs)
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    train = read_split(fn_args.train_files, transform, spec)
    held_out = read_split(fn_args.eval_files, transform, spec)
    training.make_repeatable(training_settings)
    fit_kwargs = {
        "x": train.inputs,
        "y": train.targets,
        "validation_data": (held_out.inputs, held_out.targets),
        "batch_size": training_settings.batch_size,
        "epochs": settings.epochs,
        "callbacks": training.training_callbacks(training_settings),
        "verbose": 0,
    }
    steps_per_epoch = -(-len(train) // training_settings.batch_size)
    hypermodel = _hypermodel(training_settings, spec, steps_per_epoch)
    return TunerFnResult(make_tuner(hypermodel, settings, directory=fn_args.working_dir), fit_kwargs)


Hypermodel = Callable[[keras_tuner.HyperParameters], keras.Model]


def make_tuner(
    hypermodel: Hypermodel, settings: TuningSettings, *, directory: str
) -> keras_tuner.engine.base_tuner.BaseTuner:
    """A KerasTuner whose ``search`` raises :class:`SearchFailed` when no trial finished."""
    common = {"objective": settings.objective, "seed": settings.seed, "directory": directory, "overwrite": True}
    if settings.algorithm == "hyperband":
        return _Hyperband(hypermodel, max_epochs=settings.epochs, project_name="search", **common)
    tuner = {"random": _RandomSearch, "bayesian": _BayesianOptimization}[settings.algorithm]
    return tuner(hypermodel, max_trials=settings.max_trials, project_name="search", **common)


def _hypermodel(settings: TrainingSettings, spec: AudioSpec, steps_per_epoch: int) -> Hypermodel:
    family = settings.model_family
    configured = family.hyperparameters(settings.hyperparameters)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        drawn = family.search_space(hp, configured)
        tried = dataclasses.replace(settings, hyperparameters=dataclasses.asdict(drawn))
        with training.precision(settings.precision):
            return training.build_compiled(tried, spec, steps_per_epoch=steps_per_epoch)

    return build


class _MustFinish:
    """Makes a tuner say what became of each trial, and fail when none succeeded.

    KerasTuner by itself swallows a trial's exception and goes on, and where every trial failed TFX's Tuner may
    publish values as the best that no finished trial stands behind.
    """

    oracle: keras_tuner.Oracle

    def search(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().search(*args, **kwargs)  # type: ignore[misc]  # the tuner that this is mixed into
        except RuntimeError as error:  # KerasTuner gives up after three failures in a row
            if any(map(_finished, self.oracle.trials.values())):
                raise
            raise SearchFailed(_why(self.oracle.trials.values())) from error
        if not any(map(_finished, self.oracle.trials.values())):
            raise SearchFailed(_why(self.oracle.trials.values()))

    def on_trial_end(self, trial: kt_trial.Trial) -> None:
        super().on_trial_end(trial)  # type: ignore[misc]  # the tuner that this is mixed into
        ended = self.oracle.get_trial(trial.trial_id)
        outcome = f"{self.oracle.objective.name} {ended.score:.4f}" if _finished(ended) else "failed"
        values = ", ".join(f"{name} {value}" for name, value in ended.hyperparameters.values.items())
        print(f"Tuner  trial {len(self.oracle.end_order)}  {outcome}  {values}", file=sys.stderr, flush=True)


class _RandomSearch(_MustFinish, keras_tuner.RandomSearch):
    pass


class _BayesianOptimization(_MustFinish, keras_tuner.BayesianOptimization):
    pass


class _Hyperband(_MustFinish, keras_tuner.Hyperband):
    pass


def _finished(trial: kt_trial.Trial) -> bool:
    return trial.status == kt_trial.TrialStatus.COMPLETED


def _why(trials: Iterable[kt_trial.Trial]) -> str:
    failed = [trial for trial in trials if trial.message]
    if not failed:
        return "the search ended without a single trial; is tuner.max_trials above 0 and the search space not empty?"
    values = failed[0].hyperparameters.values
    return f"none of {len(failed)} trials finished. The first, {values}, failed with:\n{failed[0].message}"
