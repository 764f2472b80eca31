"""The search for hyperparameters: what TFX's Tuner calls."""

import copy
import hashlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from keras_tuner.engine import trial as kt_trial

from modules.audio.spec import AudioSpec
from modules.common.code_fingerprint import code_fingerprint
from modules.common.digest import digest
from modules.data.dataset import Split, read_split
from modules.training import trainer
from modules.training.devices import accelerators_of, strategy_of
from modules.training.settings import TrainingSettings, TuningSettings
from modules.training.trials import TrialRecord, TrialRecords

Hypermodel = Callable[[keras_tuner.HyperParameters], keras.Model]

# Hyperband keeps its books among a trial's values.
_BOOKKEEPING = "tuner/"

_SEARCH = "search"
_TRIALS = "trials"


class SearchFailed(RuntimeError):
    """No trial of a search came to its end, so there are no best hyperparameters."""


class TunerFnResult(NamedTuple):
    """What TFX's Tuner wants back, field by field."""

    tuner: keras_tuner.engine.base_tuner.BaseTuner
    fit_kwargs: dict[str, Any]


def tuner_config(spec: AudioSpec, training_settings: TrainingSettings, settings: TuningSettings) -> dict[str, Any]:
    """The ``custom_config`` that :func:`tuner_fn` wants of the Tuner component."""
    return trainer.trainer_config(spec, training_settings) | {"tuner": settings.model_dump(mode="json")}


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """A search over the family's own space, for TFX's Tuner to run.

    ``fn_args.custom_config`` is :func:`tuner_config`'s. Trials train on ``train`` and are judged on ``eval``, whose
    speakers are others. In a ``working_dir`` that outlives the process, a search that was stopped goes on.

    Raises:
        AcceleratorsMissing: TensorFlow sees fewer accelerators than the job was given.
    """
    devices = accelerators_of(fn_args.custom_config)
    spec, training_settings = trainer.read_config(fn_args.custom_config)
    settings = TuningSettings.model_validate(fn_args.custom_config["tuner"])
    training_settings = training_settings.replace(epochs=settings.epochs)
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    train = read_split(fn_args.train_files, transform, spec)
    held_out = read_split(fn_args.eval_files, transform, spec)
    fit_kwargs = trainer.fit_arguments(training_settings, train, held_out, devices=len(devices))
    fit_kwargs["callbacks"] = trainer.training_callbacks(training_settings)
    steps_per_epoch = -(-len(train) // training_settings.batch_size)
    hypermodel = make_hypermodel(training_settings, spec, steps_per_epoch=steps_per_epoch)
    key = search_key(training_settings, settings, spec, train, held_out)
    tuner = make_tuner(
        hypermodel, settings, training_settings, directory=f"{fn_args.working_dir}/{key}", strategy=strategy_of(devices)
    )
    tuner.judged_on = _judged_on(train, held_out)
    return TunerFnResult(tuner, fit_kwargs)


def make_tuner(
    hypermodel: Hypermodel,
    settings: TuningSettings,
    training_settings: TrainingSettings,
    *,
    directory: str,
    strategy: tf.distribute.Strategy | None = None,
) -> "Search":
    """Return a KerasTuner search that goes on with what it finds in ``directory``.

    Args:
        strategy: Distributes each trial over several devices.

    Its ``search`` raises :class:`SearchFailed` when no trial finished.
    """
    # KerasTuner takes a seed of 0 for none and draws one.
    common = {
        "objective": settings.objective,
        "seed": settings.seed + 1,
        "directory": directory,
        "distribution_strategy": strategy,
    }
    if settings.algorithm == "hyperband":
        tuner: Search = _Hyperband(hypermodel, max_epochs=settings.epochs, project_name=_SEARCH, **common)
    else:
        chosen = {"random": _RandomSearch, "bayesian": _BayesianOptimization}[settings.algorithm]
        tuner = chosen(hypermodel, max_trials=settings.max_trials, project_name=_SEARCH, **common)
    tuner.records = TrialRecords(f"{directory}/{_TRIALS}")
    tuner.training_settings = training_settings
    return tuner


def make_hypermodel(settings: TrainingSettings, spec: AudioSpec, *, steps_per_epoch: int) -> Hypermodel:
    """Builds the compiled model of the values that a search proposes."""
    family = settings.model_family
    configured = family.hyperparameters(settings.hyperparameters)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        drawn = family.search_space(hp, configured)
        tried = settings.replace(hyperparameters=drawn.model_dump())
        with trainer.precision(settings.precision):
            return trainer.build_compiled(tried, spec, steps_per_epoch=steps_per_epoch)

    return build


def search_key(
    training_settings: TrainingSettings, settings: TuningSettings, spec: AudioSpec, train: Split, held_out: Split
) -> str:
    """Differs when anything that a trial's outcome depends on does, so that no stale trial is ever taken for a new one.

    The number of trials is not part of it: a longer search goes on where the shorter one ended.
    """
    family = training_settings.model_family
    space = keras_tuner.HyperParameters()
    family.search_space(space, family.hyperparameters(training_settings.hyperparameters))
    search = settings.model_dump(exclude={"max_trials", "enabled"})
    return digest(
        [
            [training_settings.model_dump(), search, spec.fingerprint],
            space.get_config()["space"],
            [_fingerprint(train), _fingerprint(held_out)],
            code_fingerprint(__name__),
        ]
    )


def search_report(tuner: "Search") -> dict[str, Any]:
    """What became of each trial, in the order in which they began, as JSON writes it."""
    trials = [_trial_report(trial, tuner.records) for _, trial in sorted(tuner.oracle.trials.items())]
    return {"objective": tuner.oracle.objective.name, "judged_on": tuner.judged_on, "trials": trials}


class Search(keras_tuner.Tuner):
    """What every search here adds to KerasTuner.

    It says what became of each trial. It fails when none succeeded: KerasTuner swallows a trial's exception and goes
    on, and where every trial failed TFX's Tuner may publish values as the best that no finished trial stands behind.

    It goes on after it was killed. KerasTuner's own way of reloading forgets the state of the Bayesian search's random
    numbers and writes files that are broken when it is killed meanwhile. Here the search itself always starts anew,
    with the same seed; a trial that finished before gives its recorded outcome at once instead of being trained.
    Each trial starts from the same seed, so that its outcome does not depend on what was trained before it.

    Attributes:
        records: Of the trials that finished.
        training_settings: What the trials have in common.
        judged_on: What is known of the two splits, for reports.
    """

    records: TrialRecords
    training_settings: TrainingSettings
    judged_on: dict[str, Any]
    _was_known: bool = False

    def search(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().search(*args, **kwargs)
        except RuntimeError as error:  # KerasTuner gives up after three failures in a row
            if not self._knows_all_trials or any(map(_finished, self.oracle.trials.values())):
                raise
            raise SearchFailed(_why(self.oracle.trials.values())) from error
        if not self._knows_all_trials:
            return
        if not any(map(_finished, self.oracle.trials.values())):
            raise SearchFailed(_why(self.oracle.trials.values()))
        # TFX asks for so many of the best trials, and Hyperband has no number of its own.
        self.oracle.max_trials = len(self.oracle.trials)

    def run_trial(self, trial: kt_trial.Trial, *args: Any, **kwargs: Any) -> Any:
        known = self.records.find(trial.hyperparameters.values)
        self._was_known = known is not None
        if known:
            return _as_keras_returned(known)
        trainer.make_repeatable(self.training_settings)
        # Batches that are drawn anew count epochs; each trial begins at the first.
        kwargs["x"] = copy.copy(kwargs["x"])
        started_sec = time.monotonic()
        (fitted,) = super().run_trial(trial, *args, **kwargs)
        history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
        values = dict(trial.hyperparameters.values)
        self.records.add(TrialRecord(values=values, history=history, seconds=time.monotonic() - started_sec))
        return [fitted]

    def on_trial_end(self, trial: kt_trial.Trial) -> None:
        super().on_trial_end(trial)
        ended = self.oracle.get_trial(trial.trial_id)
        outcome = f"{self.oracle.objective.name} {ended.score:.4f}" if _finished(ended) else "failed"
        values = ", ".join(f"{name} {value}" for name, value in proposed(ended.hyperparameters.values).items())
        before = "  (trained before)" if self._was_known else ""
        print(f"Tuner  trial {_name(trial)}  {outcome}  {values}{before}", file=sys.stderr, flush=True)

    def forget_weights(self) -> None:
        """Removes the trials' weights, when no other trial will go on from them. What became of each trial stays."""
        if all(map(_finished, self.oracle.trials.values())):
            tf.io.gfile.rmtree(self.project_dir)

    def save(self) -> None:
        """Not: KerasTuner would reload what it finds."""

    @property
    def _knows_all_trials(self) -> bool:
        """Not where the trials are dealt out by another process."""
        return isinstance(self.oracle, keras_tuner.Oracle)


class _RandomSearch(Search, keras_tuner.RandomSearch):
    pass


class _BayesianOptimization(Search, keras_tuner.BayesianOptimization):
    pass


class _Hyperband(Search, keras_tuner.Hyperband):
    pass


def proposed(values: dict[str, Any]) -> dict[str, Any]:
    """A trial's hyperparameters alone."""
    return {name: value for name, value in values.items() if not name.startswith(_BOOKKEEPING)}


def _trial_report(trial: kt_trial.Trial, records: TrialRecords) -> dict[str, Any]:
    values = trial.hyperparameters.values
    record = records.find(values)
    first_epoch = values.get(f"{_BOOKKEEPING}initial_epoch", 0)
    finished = _finished(trial) and record is not None
    return {
        "name": _name(trial),
        "status": trial.status.lower(),
        "score": trial.score if finished else None,
        "hyperparameters": proposed(values),
        "first_epoch": first_epoch + 1,
        "history": record.history if record else {},
        "seconds": record.seconds if record else None,
        "failure": "".join((trial.message or "").strip().splitlines()[-1:]),
    }


def _judged_on(train: Split, held_out: Split) -> dict[str, Any]:
    heard, judging = ({str(speaker) for speaker in split.speakers} for split in (train, held_out))
    return {
        "train_examples": len(train),
        "eval_clips": len(held_out),
        "train_speakers": len(heard),
        "eval_speakers": len(judging),
        "speakers_in_both": len(heard & judging),
    }


def _fingerprint(split: Split) -> str:
    found = hashlib.sha256()
    for array in (split.features, split.valid_frames, split.emotion_ids):
        found.update(str(array.shape).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _as_keras_returned(record: TrialRecord) -> list[keras.callbacks.History]:
    fitted = keras.callbacks.History()
    fitted.history = record.history
    return [fitted]


def _name(trial: kt_trial.Trial) -> str:
    """KerasTuner counts from 0."""
    return str(int(trial.trial_id) + 1)


def _finished(trial: kt_trial.Trial) -> bool:
    return trial.status == kt_trial.TrialStatus.COMPLETED


def _why(trials: Iterable[kt_trial.Trial]) -> str:
    failed = [trial for trial in trials if trial.message]
    if not failed:
        return "the search ended without a single trial; is tuner.max_trials above 0 and the search space not empty?"
    values = failed[0].hyperparameters.values
    return f"none of {len(failed)} trials finished. The first, {values}, failed with:\n{failed[0].message}"
