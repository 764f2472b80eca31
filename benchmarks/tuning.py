"""KerasTuner against Optuna: ``python -m benchmarks.tuning --data DIR --root DIR [--folds N] [--write FILE]``.

Each search gets the same space, the same recordings, the same number of epochs to train and the same folds. A fold
leaves some speakers out. A search trains on some of the others and scores on the rest; then a model is trained with the
best values and predicts the speakers left out. All trials start from the same seed. A stopped benchmark resumes.

The space is that of the family ``original_cnn`` with smaller networks, so that a trial takes seconds, and with the
learning rate in place of the pooling; training clips have no augmented copies.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
import numpy as np
import optuna

from benchmarks import command, document
from modules.common.digest import digest
from modules.common.files import write_whole
from modules.common.progress import Progress
from modules.data.dataset import Split
from modules.data.splits import EVAL, TEST, TRAIN
from modules.evaluation.intervals import Estimate, Predictions, estimates, paired_differences
from modules.training import trainer
from modules.training.settings import Algorithm, TrainingSettings, TuningSettings
from modules.training.trials import TrialRecord, TrialRecords
from modules.training.tuner import make_tuner, search_key
from pipeline.config import PipelineConfig, load_config
from pipeline.cross_validation import corpus as whole_corpus
from pipeline.cross_validation.folds import Fold
from pipeline.cross_validation.run import Plan, plan

TPE: Final = "optuna tpe"
SEARCHES: tuple[Algorithm, ...] = ("bayesian", "hyperband")
OBJECTIVE: Final = "val_loss"
SETTINGS = (
    "training.family=original_cnn",
    "audio.feature_family=utterance",
    "augmentation.variants=[plain]",
    "training.batch_size=64",
)

Values = dict[str, Any]
Advance = Callable[[int], None]
Method = Literal[Algorithm, "optuna tpe"]


@dataclasses.dataclass(frozen=True)
class Task:
    """One fold: data and settings of its searches."""

    name: str
    config: PipelineConfig
    splits: dict[str, Split]
    budget_epochs: int
    seed: int

    @property
    def settings(self) -> TrainingSettings:
        """Settings of the trials."""
        return self.config.training

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.splits[TRAIN]) // self.settings.batch_size)

    @property
    def key(self) -> str:
        """Key of all that the outcome of a trial depends on."""
        space = keras_tuner.HyperParameters()
        draw(space)
        search = TuningSettings(epochs=self.settings.epochs, objective=OBJECTIVE)
        splits = self.splits[TRAIN], self.splits[EVAL]
        key = search_key(self.settings, search, self.config.audio, *splits)
        return digest([key, space.get_config()["space"], self.splits[TEST].speakers.tolist()])

    def model(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return the compiled model of a trial."""
        settings = with_values(self.settings, draw(hp))
        return trainer.build_compiled(
            settings,
            self.config.audio,
            classes=len(self.splits[TRAIN].emotions),
            steps_per_epoch=self.steps_per_epoch,
        )

    def fit_arguments(self) -> dict[str, Any]:
        """Return the arguments of ``fit``."""
        arguments = trainer.fit_arguments(self.settings, self.splits[TRAIN], self.splits[EVAL])
        return arguments | {"callbacks": trainer.training_callbacks(self.settings)}


def draw(hp: keras_tuner.HyperParameters) -> Values:
    """Return values of the search space that KerasTuner draws."""
    return {
        "filters": hp.Choice("filters", [4, 8, 16, 24]),
        "kernel": hp.Int("kernel", 3, 10),
        "dropout": hp.Float("dropout", 0.05, 0.5, step=0.05),
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
    }


def with_values(settings: TrainingSettings, values: Values) -> TrainingSettings:
    """Return the settings with the values of a trial."""
    values = dict(values)
    rate = values.pop("learning_rate")
    return settings.replace(learning_rate=rate, hyperparameters=values)


def suggest(trial: optuna.Trial, parameter: Any) -> Any:
    """Return the value that Optuna draws for a KerasTuner parameter."""
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Choice):
        return trial.suggest_categorical(parameter.name, parameter.values)
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Int):
        return trial.suggest_int(parameter.name, parameter.min_value, parameter.max_value)
    log = parameter.sampling == "log"
    return trial.suggest_float(
        parameter.name, parameter.min_value, parameter.max_value, step=None if log else parameter.step, log=log
    )


def search_keras_tuner(task: Task, algorithm: Algorithm, folder: Path, advance: Advance) -> tuple[Values, float]:
    """Return the best values of a KerasTuner search and their score.

    Args:
        task: Fold to search on.
        algorithm: Algorithm of KerasTuner.
        folder: Folder of trials.
        advance: Called with the number of epochs spent.
    """
    settings = TuningSettings(
        algorithm=algorithm, max_trials=1000, epochs=task.settings.epochs, objective=OBJECTIVE, seed=task.seed
    )
    tuner = make_tuner(task.model, settings, task.settings, directory=str(folder / algorithm))
    tuner.records = records(folder)
    spent = _Budget(task.budget_epochs, advance)

    def stop_when_spent() -> None:
        for trial in list(tuner.oracle.trials.values())[-1:]:
            record = tuner.records.find(trial.hyperparameters.values)
            spent.add(len(record.history[OBJECTIVE]) if record else 0)
        if spent.all:
            tuner.oracle.max_trials = len(tuner.oracle.trials)

    tuner.pre_create_trial = stop_when_spent
    if algorithm == "hyperband":
        tuner.oracle.hyperband_iterations = 1000  # until the epochs are spent
    tuner.search(**task.fit_arguments())
    best = tuner.oracle.get_best_trials()[0]
    return tuner.proposed(best.hyperparameters.values), float(best.score)


def search_optuna(task: Task, folder: Path, advance: Advance) -> tuple[Values, float]:
    """Return the best values of Optuna's tree-structured Parzen estimator and their score.

    Args:
        task: Fold to search on.
        folder: Folder of trials.
        advance: Called with the number of epochs spent.
    """
    space = keras_tuner.HyperParameters()
    draw(space)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=task.seed))
    trials, spent = records(folder), _Budget(task.budget_epochs, advance)
    while not spent.all:
        trial = study.ask()
        values = {parameter.name: suggest(trial, parameter) for parameter in space.space}
        record = trials.find(values) or _train(task, values, trials)
        study.tell(trial, min(record.history[OBJECTIVE]))
        spent.add(len(record.history[OBJECTIVE]))
    return study.best_params, study.best_value


class _Budget:
    """Epochs to spend."""

    def __init__(self, epochs: int, advance: Advance) -> None:
        self._left, self._advance = epochs, advance

    def add(self, epochs: int) -> None:
        self._advance(min(epochs, max(self._left, 0)))
        self._left -= epochs

    @property
    def all(self) -> bool:
        return self._left <= 0


def _train(task: Task, values: Values, trials: TrialRecords) -> TrialRecord:
    """Train a trial as KerasTuner does."""
    keras.backend.clear_session()
    started_sec = time.monotonic()
    space = keras_tuner.HyperParameters()
    space.values = dict(values)
    trainer.make_repeatable(task.settings)
    fitted = task.model(space).fit(**task.fit_arguments())
    history = {name: [float(value) for value in curve] for name, curve in fitted.history.items()}
    record = TrialRecord(values=values, history=history, seconds=time.monotonic() - started_sec)
    trials.add(record)
    return record


def records(folder: Path) -> TrialRecords:
    """Return the trials of all methods: the same values give the same outcome."""
    return TrialRecords(str(folder / "trials"))


def search_result(method: Method, task: Task, folder: Path, advance: Advance) -> dict[str, Any]:
    """Return the result of a search, from its file or from searching."""
    path = folder / f"{method.replace(' ', '-')}-{task.budget_epochs}-{task.seed}.json"
    if path.exists():
        advance(task.budget_epochs)
        return json.loads(path.read_text())
    started_sec = time.monotonic()
    if method == TPE:
        values, score = search_optuna(task, folder, advance)
    else:
        values, score = search_keras_tuner(task, method, folder, advance)
    write_whole(path, json.dumps({"values": values, "score": score, "seconds": time.monotonic() - started_sec}))
    return json.loads(path.read_text())


def answers(task: Task, values: Values, folder: Path) -> np.ndarray:
    """Return predictions for the speakers left out, ``[clips, emotions]``, by a model that is trained once."""
    path = folder / f"answers-{digest(values)}.json"
    if not path.exists():
        keras.backend.clear_session()
        trained = trainer.train_model(
            with_values(task.settings, values), task.config.audio, task.splits[TRAIN], task.splits[EVAL]
        )
        probabilities = trainer.predict(trained.model, task.splits[TEST])
        write_whole(path, json.dumps(probabilities.tolist()))
    return np.array(json.loads(path.read_text()))


def make_task(config: PipelineConfig, planned: Plan, fold: Fold, budget_epochs: int, seed: int) -> Task:
    """Return the task of one fold."""
    corpus = planned.corpus
    speakers = {TRAIN: fold.train, EVAL: fold.eval, TEST: fold.test}
    positions = {name: corpus.of(names, plain=True) for name, names in speakers.items()}
    normalise = whole_corpus.normaliser(config, corpus, fold.train)
    splits = {
        name: whole_corpus.split(corpus, normalise, chosen, max_bytes=config.training.max_bytes)
        for name, chosen in positions.items()
    }
    return Task(fold.name, config, splits, budget_epochs, seed)


def predictions(tasks: Sequence[Task], results: Sequence[dict[str, Any]]) -> Predictions:
    """Return the predictions for the speakers left out, all folds together."""
    return Predictions.of(
        np.concatenate([task.splits[TEST].emotion_ids for task in tasks]),
        np.concatenate([result["answers"] for result in results]),
        [str(speaker) for task in tasks for speaker in task.splits[TEST].speakers],
    )


def report(tasks: Sequence[Task], results: Mapping[Method, Sequence[dict[str, Any]]]) -> str:
    """Return a table with a row for each method, and whether KerasTuner's are worse."""
    heads = ["", "Least eval loss, fold by fold", "Mean", "Test UAR, %", f"Minus {TPE}, points"]
    predicted = {method: predictions(tasks, of_folds) for method, of_folds in results.items()}
    paired: dict[Method, Estimate] = {
        method: paired_differences(ours, predicted[TPE], ("uar",))["uar"]
        for method, ours in predicted.items()
        if method != TPE
    }
    lines = [_line(method, results[method], predicted[method], paired.get(method)) for method in results]
    sentences = [_scope(tasks, predicted[TPE])]
    sentences += [
        f"{method.capitalize()} is {'' if each.high < 0 else 'not '}significantly worse than {TPE}."
        for method, each in paired.items()
    ]
    return document.table(heads, lines) + "\n" + " ".join(sentences)


def _line(method: str, results: Sequence[dict[str, Any]], predicted: Predictions, paired: Estimate | None) -> list[str]:
    scores = [each["score"] for each in results]
    uar = estimates(predicted, ("uar",))["uar"]
    cells = [method, ", ".join(f"{score:.3f}" for score in scores), f"{np.mean(scores):.3f}"]
    cells.append(document.percent_with_range(uar))
    if paired is None:
        return [*cells, ""]
    return [*cells, document.points(paired)]


def _scope(tasks: Sequence[Task], predicted: Predictions) -> str:
    return (
        f"{len(tasks)} folds, {len(predicted.labels)} test clips of {len(np.unique(predicted.speakers))} speakers; "
        f"{tasks[0].budget_epochs} epochs for each search in each fold, at most {tasks[0].settings.epochs} for a trial."
    )


def search_all(options: argparse.Namespace) -> str:
    """Run every search on every fold and return the report."""
    config = load_config(overrides=[*SETTINGS, f"training.epochs={options.epochs}"])
    planned = plan(config, data=options.data, root=options.root, folds=6)
    folds = planned.folds[: options.folds]
    methods: tuple[Method, ...] = (*options.searches, TPE)
    progress = Progress("Tuning", total=len(folds) * len(methods) * options.budget, unit="epochs")
    tasks: list[Task] = []
    results: dict[Method, list[dict[str, Any]]] = {method: [] for method in methods}
    for seed, fold in enumerate(folds):
        task = make_task(config, planned, fold, options.budget, seed)
        tasks.append(task)
        folder = options.root / "tuning" / task.key
        folder.mkdir(parents=True, exist_ok=True)
        for method in methods:
            print(f"Tuning   {method}, {fold.name}", file=sys.stderr, flush=True)
            best = search_result(method, task, folder, progress.advance)
            results[method].append(best | {"answers": answers(task, best["values"], folder)})
    for method, of_folds in results.items():
        print(f"{method}: " + "; ".join(json.dumps(each["values"]) for each in of_folds), file=sys.stderr)
    return report(tasks, results)


def main() -> None:
    """Run the searches and print the table."""
    parser = command.make_parser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of examples, trials and results")
    parser.add_argument("--folds", type=int, default=2, help="number of the six folds to use")
    parser.add_argument("--epochs", type=int, default=6, help="most epochs of a trial")
    parser.add_argument("--budget", type=int, default=120, help="epochs that each search may train in each fold")
    parser.add_argument("--searches", nargs="+", default=SEARCHES, choices=(*SEARCHES, "random"))
    options = parser.parse_args()
    command.publish({"tuning": search_all(options)}, options.write)


if __name__ == "__main__":
    main()
