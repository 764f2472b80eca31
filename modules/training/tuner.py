"""Search for hyperparameters: the ``tuner_fn`` of TFX's Tuner."""

import copy
import hashlib
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
from modules.common import live_line
from modules.common.code_fingerprint import code_fingerprint
from modules.common.digest import digest
from modules.common.errors import SerError
from modules.data.dataset import Split
from modules.training import trainer
from modules.training.balancing import clip_weights
from modules.training.devices import accelerators_of, strategy_of
from modules.training.settings import TrainingSettings, TuningSettings
from modules.training.trials import TrialRecord, TrialRecords

Hypermodel = Callable[[keras_tuner.HyperParameters], keras.Model]

# Prefix of Hyperband's own entries among a trial's values.
_BOOKKEEPING = "tuner/"

_HASHED_ROWS = 1024
_SEARCH = "search"
_TRIALS = "trials"


class SearchFailed(SerError, RuntimeError):
    """A search without a finished trial, and so without best hyperparameters."""

    code = "training.search_failed"


class TunerFnResult(NamedTuple):
    """Return value of ``tuner_fn`` with the fields that TFX's Tuner reads."""

    tuner: keras_tuner.engine.base_tuner.BaseTuner
    fit_kwargs: dict[str, Any]


def tuner_config(spec: AudioSpec, training_settings: TrainingSettings, settings: TuningSettings) -> dict[str, Any]:
    """Return the ``custom_config`` of the Tuner component for :func:`tuner_fn`.

    Args:
        spec: Audio spec of the examples.
        training_settings: Settings of the trials.
        settings: Settings of the search.

    Raises:
        ValueError: The model family does not read the features of the spec.
    """
    return trainer.trainer_config(spec, training_settings) | {"tuner": settings.model_dump(mode="json")}


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """Return a search over the family's own space for TFX's Tuner.

    Trials train on ``train`` and are scored on ``eval``, which has other speakers. A stopped search resumes if its
    ``working_dir`` still exists.

    Args:
        fn_args: TFX's ``FnArgs`` with the ``custom_config`` of :func:`tuner_config`.

    Raises:
        AcceleratorsMissing: TensorFlow finds fewer accelerators than the job has.
    """
    devices = accelerators_of(fn_args.custom_config)
    spec, training_settings = trainer.read_config(fn_args.custom_config)
    settings = TuningSettings.model_validate(fn_args.custom_config["tuner"])
    training_settings = training_settings.replace(epochs=settings.epochs)
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    train, held_out = trainer.read_splits(fn_args, transform, spec, training_settings)
    fit_kwargs = trainer.fit_arguments(training_settings, train, held_out, devices=len(devices))
    fit_kwargs["callbacks"] = trainer.training_callbacks(training_settings)
    steps_per_epoch = -(-len(train) // training_settings.batch_size)
    hypermodel = make_hypermodel(training_settings, spec, classes=len(train.emotions), steps_per_epoch=steps_per_epoch)
    key = search_key(training_settings, settings, spec, train, held_out)
    tuner = make_tuner(
        hypermodel, settings, training_settings, directory=f"{fn_args.working_dir}/{key}", strategy=strategy_of(devices)
    )
    tuner.splits = _describe_splits(train, held_out)
    return TunerFnResult(tuner, fit_kwargs)


def make_tuner(
    hypermodel: Hypermodel,
    settings: TuningSettings,
    training_settings: TrainingSettings,
    *,
    directory: str,
    strategy: tf.distribute.Strategy | None = None,
) -> "Search":
    """Return a KerasTuner search that resumes from ``directory``.

    Its ``search`` raises :class:`SearchFailed` when no trial finished.

    Args:
        hypermodel: Builds the compiled model of a trial.
        settings: Settings of the search.
        training_settings: Settings of the trials.
        directory: Folder of the search.
        strategy: Distributes each trial over several devices.
    """
    # KerasTuner replaces a seed of 0 by a random one.
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


def make_hypermodel(settings: TrainingSettings, spec: AudioSpec, *, classes: int, steps_per_epoch: int) -> Hypermodel:
    """Return a function that builds the compiled model of the values that a search proposes.

    Args:
        settings: Settings of the trials.
        spec: Audio spec of the clips.
        classes: Number of emotions.
        steps_per_epoch: Batches of an epoch.
    """
    family = settings.model_family
    configured = family.hyperparameters(settings.hyperparameters)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        drawn = family.search_space(hp, configured)
        tried = settings.replace(hyperparameters=drawn.model_dump())
        with trainer.precision(settings.precision):
            return trainer.build_compiled(tried, spec, classes=classes, steps_per_epoch=steps_per_epoch)

    return build


def search_key(
    training_settings: TrainingSettings, settings: TuningSettings, spec: AudioSpec, train: Split, held_out: Split
) -> str:
    """Return a key of all that the outcome of a trial depends on, so that stale trials are not reused.

    The number of trials is not part of it: a longer search resumes a shorter one.

    Args:
        training_settings: Settings of the trials.
        settings: Settings of the search.
        spec: Audio spec of the clips.
        train: Clips that trials train on.
        held_out: Clips that trials are scored on.
    """
    family = training_settings.model_family
    space = keras_tuner.HyperParameters()
    family.search_space(space, family.hyperparameters(training_settings.hyperparameters))
    weights = clip_weights(train, training_settings.balance)
    search = settings.model_dump(exclude={"max_trials", "enabled"})
    return digest(
        [
            [training_settings.model_dump(exclude={"memory_mib"}), search, spec.fingerprint],
            space.get_config()["space"],
            [_fingerprint(train), _fingerprint(held_out), train.emotions],
            [] if weights is None else weights.tolist(),
            code_fingerprint(__name__),
        ]
    )


def search_report(tuner: "Search") -> dict[str, Any]:
    """Return the outcome of each trial in the order of their start, as plain values."""
    trials = [_trial_report(trial, tuner.records) for _, trial in sorted(tuner.oracle.trials.items())]
    return {"objective": tuner.oracle.objective.name, "splits": tuner.splits, "trials": trials}


class Search(keras_tuner.Tuner):
    """Base of the searches, in addition to KerasTuner's classes.

    It prints the outcome of each trial. It fails when no trial finished: KerasTuner catches the exceptions of trials,
    and TFX's Tuner might publish the values of a failed one as the best.

    A killed search resumes. KerasTuner's own reloading loses the state of the Bayesian search's random numbers, and a
    kill may leave its files broken. Here the search always starts from the beginning, with the same seed, and a trial
    that finished before returns its recorded outcome instead of being trained. Each trial starts from the same seed, so
    that its outcome does not depend on earlier trials.

    Attributes:
        records: Records of finished trials.
        training_settings: Settings of the trials.
        splits: Description of the two splits, for reports.
    """

    records: TrialRecords
    training_settings: TrainingSettings
    splits: dict[str, Any]
    _was_recorded: bool = False

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Run the search.

        Args:
            *args: Positional arguments of ``fit``.
            **kwargs: Keyword arguments of ``fit``.

        Raises:
            SearchFailed: No trial finished.
        """
        try:
            super().search(*args, **kwargs)
        except RuntimeError as error:  # KerasTuner gives up after three failures in a row
            if not self._owns_all_trials or any(map(_finished, self.oracle.trials.values())):
                raise
            raise SearchFailed(_reason(self.oracle.trials.values())) from error
        if not self._owns_all_trials:
            return
        if not any(map(_finished, self.oracle.trials.values())):
            raise SearchFailed(_reason(self.oracle.trials.values()))
        # TFX requests this number of best trials; Hyperband does not set it.
        self.oracle.max_trials = len(self.oracle.trials)

    def run_trial(self, trial: kt_trial.Trial, *args: Any, **kwargs: Any) -> Any:
        """Return the history of a trial, from its record or from training.

        Args:
            trial: The trial.
            *args: Positional arguments of ``fit``.
            **kwargs: Keyword arguments of ``fit``.
        """
        recorded = self.records.find(trial.hyperparameters.values)
        self._was_recorded = recorded is not None
        if recorded:
            return _as_keras_returned(recorded)
        trainer.make_repeatable(self.training_settings)
        # The batches count epochs; each trial needs a copy that starts at the first.
        kwargs["x"] = copy.copy(kwargs["x"])
        started_sec = time.monotonic()
        (fitted,) = super().run_trial(trial, *args, **kwargs)
        history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
        values = dict(trial.hyperparameters.values)
        self.records.add(TrialRecord(values=values, history=history, seconds=time.monotonic() - started_sec))
        return [fitted]

    def on_trial_end(self, trial: kt_trial.Trial) -> None:
        """Print the outcome of the trial."""
        super().on_trial_end(trial)
        ended = self.oracle.get_trial(trial.trial_id)
        outcome = f"{self.oracle.objective.name} {ended.score:.4f}" if _finished(ended) else "failed"
        values = ", ".join(f"{name} {value}" for name, value in proposed(ended.hyperparameters.values).items())
        before = "  (trained before)" if self._was_recorded else ""
        live_line.keep(f"Tuner  trial {_name(trial)}  {outcome}  {values}{before}")

    def delete_weights(self) -> None:
        """Delete the trials' weights unless a trial may still resume from them. The records of the trials stay."""
        if all(map(_finished, self.oracle.trials.values())):
            tf.io.gfile.rmtree(self.project_dir)

    def save(self) -> None:
        """Do nothing; KerasTuner would reload the saved state."""

    @property
    def _owns_all_trials(self) -> bool:
        """False where another process distributes the trials."""
        return isinstance(self.oracle, keras_tuner.Oracle)


class _RandomSearch(Search, keras_tuner.RandomSearch):
    pass


class _BayesianOptimization(Search, keras_tuner.BayesianOptimization):
    pass


class _Hyperband(Search, keras_tuner.Hyperband):
    pass


def proposed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a trial's hyperparameters without Hyperband's own entries."""
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


def _describe_splits(train: Split, held_out: Split) -> dict[str, Any]:
    training, scoring = ({str(speaker) for speaker in split.speakers} for split in (train, held_out))
    return {
        "train_examples": len(train),
        "eval_clips": len(held_out),
        "train_speakers": len(training),
        "eval_speakers": len(scoring),
        "speakers_in_both": len(training & scoring),
    }


def _fingerprint(split: Split) -> str:
    content = hashlib.sha256()
    for array in (split.features, split.valid_frames, split.emotion_ids):
        content.update(str(array.shape).encode())
        for start in range(0, len(array), _HASHED_ROWS):
            content.update(np.ascontiguousarray(array[start : start + _HASHED_ROWS]).data)
    return content.hexdigest()


def _as_keras_returned(record: TrialRecord) -> list[keras.callbacks.History]:
    fitted = keras.callbacks.History()
    fitted.history = record.history
    return [fitted]


def _name(trial: kt_trial.Trial) -> str:
    """Return the number of a trial, counted from 1; KerasTuner counts from 0."""
    return str(int(trial.trial_id) + 1)


def _finished(trial: kt_trial.Trial) -> bool:
    return trial.status == kt_trial.TrialStatus.COMPLETED


def _reason(trials: Iterable[kt_trial.Trial]) -> str:
    failed = [trial for trial in trials if trial.message]
    if not failed:
        return "the search ended without a trial; check that tuner.max_trials is above 0 and the search space not empty"
    values = failed[0].hyperparameters.values
    return f"none of {len(failed)} trials finished; the first, {values}, failed with:\n{failed[0].message}"
