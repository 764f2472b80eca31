"""Training: the ``run_fn`` of TFX's Trainer and its parts."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits
from modules.audio.spec import AudioSpec
from modules.common import live_line
from modules.common.errors import SerError
from modules.data.dataset import Split, joined, plain_constants, read_split
from modules.evaluation import abstention, calibration
from modules.export import signatures
from modules.models.encoder_blocks import BLOCKS, with_encoder_blocks
from modules.training.balancing import clip_weights
from modules.training.batches import Batches, TrainingBatches
from modules.training.devices import (
    accelerators_of,
    divisible,
    strategy_of,
    synchronise_batch_statistics,
)
from modules.training.optimizer import AdamOfTwoRates
from modules.training.settings import TrainingSettings

HISTORY_FILE = "history.json"

_EVALUATION_BATCH = 256


class TrainingDiverged(SerError, RuntimeError):
    """A non-finite loss."""

    code = "training.diverged"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A trained model and records of its training.

    Attributes:
        model: The model in float32, independent of the precision of the training.
        history: Values per epoch by the names of Keras: ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, …
        seconds: Duration of the training.
        temperature: Temperature of the calibration; 1 without one.
        operating: Abstention that keeps ``training.max_error`` on the held-out clips; None if that is not set.
    """

    model: keras.Model
    history: dict[str, list[float]]
    seconds: float
    temperature: float
    operating: abstention.Operating | None


def trainer_config(spec: AudioSpec, settings: TrainingSettings, limits: AudioLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Return the ``custom_config`` of the Trainer component for :func:`run_fn`.

    Args:
        spec: Audio spec of the examples.
        settings: Settings of the training.
        limits: Limits of the recordings that the served model accepts.

    Raises:
        ValueError: The model family does not read the features of the spec.
    """
    settings.require_features_of(spec)
    return {
        "audio_spec": spec.to_json(),
        "training": settings.model_dump(mode="json"),
        "limits": limits.model_dump(mode="json"),
    }


def run_fn(fn_args: Any) -> None:
    """Train and export a model for TFX's Trainer, on all accelerators of the job.

    Hyperparameters that a Tuner found replace configured ones. The SavedModel goes to ``serving_model_dir``;
    TensorBoard's logs and ``history.json`` go to ``model_run_dir``.

    Args:
        fn_args: TFX's ``FnArgs``. Its ``custom_config`` is that of :func:`trainer_config`, with
            :data:`modules.training.devices.ACCELERATORS_KEY` on a machine with accelerators.

    Raises:
        AcceleratorsMissing: TensorFlow finds fewer accelerators than the job has.
        TrainingDiverged: The loss is not finite.
        PromiseOutOfReach: No confidence keeps ``training.max_error``.
    """
    devices = accelerators_of(fn_args.custom_config)
    spec, settings = read_config(fn_args.custom_config)
    settings = with_tuned_hyperparameters(settings, fn_args.hyperparameters)
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    train, held_out = read_splits(fn_args, transform, spec, settings)
    run_dir = fn_args.model_run_dir
    logs = keras.callbacks.TensorBoard(f"{run_dir}/logs", write_graph=False)
    trained = train_model(settings, spec, train, held_out, callbacks=[logs], devices=devices)
    limits = AudioLimits.model_validate(fn_args.custom_config["limits"])
    if trained.operating:
        limits = limits.replace(min_confidence=trained.operating.min_confidence)
    signatures.export(
        trained.model,
        transform,
        spec,
        fn_args.serving_model_dir,
        temperature=trained.temperature,
        limits=limits,
        labels=train.emotions,
        description=describe_model(trained.model, settings),
        plain=plain_constants(fn_args.train_files, transform, spec),
    )
    report = training_report(trained, settings, clips={"train": len(train), "eval": len(held_out)})
    _write_text(run_dir, HISTORY_FILE, json.dumps(report, indent=2))


def read_splits(
    fn_args: Any, transform: tft.TFTransformOutput, spec: AudioSpec, settings: TrainingSettings
) -> tuple[Split, Split]:
    """Return the clips to train on and the held-out clips of TFX's ``FnArgs``, within ``training.memory_mib``.

    Args:
        fn_args: TFX's ``FnArgs``.
        transform: Output of the Transform component.
        spec: Audio spec of the examples.
        settings: Settings of the training.

    Raises:
        FileNotFoundError: A split has no example.
        ValueError: A feature is not finite.
        AudioSpecMismatch: The examples were made with another audio spec.
    """
    train, held_out = (
        read_split(files, transform, spec, max_bytes=settings.max_bytes)
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    return train, held_out


def read_config(custom_config: Mapping[str, Any]) -> tuple[AudioSpec, TrainingSettings]:
    """Return the audio spec and the settings that :func:`trainer_config` wrote.

    Args:
        custom_config: The ``custom_config`` of the component.

    Raises:
        ValueError: The values are not allowed.
    """
    spec = AudioSpec.from_json(custom_config["audio_spec"])
    settings = TrainingSettings.model_validate(custom_config["training"])
    settings.require_features_of(spec)
    return spec, settings


def with_tuned_hyperparameters(settings: TrainingSettings, tuned: Mapping[str, Any] | None) -> TrainingSettings:
    """Return the settings with the values that a search found.

    Args:
        settings: Configured settings.
        tuned: Config of KerasTuner's ``HyperParameters``; None without a search.
    """
    if not tuned:
        return settings
    family = settings.model_family
    best = keras_tuner.HyperParameters.from_config(dict(tuned))
    chosen = family.search_space(best, family.hyperparameters(settings.hyperparameters))
    return settings.replace(hyperparameters=chosen.model_dump())


def train_model(
    settings: TrainingSettings,
    spec: AudioSpec,
    train: Split,
    held_out: Split,
    *,
    callbacks: list[keras.callbacks.Callback] | None = None,
    devices: Sequence[str] = (),
) -> TrainedModel:
    """Train a model.

    Args:
        settings: Settings of the training.
        spec: Audio spec of the clips.
        train: Clips to train on.
        held_out: Clips for the learning rate schedule, early stopping and calibration.
        callbacks: Callbacks in addition to those of the settings.
        devices: Logical devices that share each batch, such as ``GPU:0`` and ``GPU:1``; by default TensorFlow chooses.

    Raises:
        TrainingDiverged: The loss is not finite.
        PromiseOutOfReach: No confidence keeps ``training.max_error`` on the held-out clips.
        ValueError: The devices cannot share a batch of ``training.batch_size`` clips evenly.
    """
    started_sec = time.monotonic()
    callbacks = callbacks or []
    model, history = _fit(settings, spec, train, held_out, callbacks, devices)
    temperature, operating = _calibrate(model, held_out, settings)
    if settings.refit:
        everything = joined(train, held_out, max_bytes=settings.max_bytes)
        model, _ = _fit(settings, spec, everything, held_out, callbacks, devices)
    return TrainedModel(
        model=model,
        history=history,
        seconds=time.monotonic() - started_sec,
        temperature=temperature,
        operating=operating,
    )


def _fit(
    settings: TrainingSettings,
    spec: AudioSpec,
    train: Split,
    held_out: Split,
    callbacks: Sequence[keras.callbacks.Callback],
    devices: Sequence[str],
) -> tuple[keras.Model, dict[str, list[float]]]:
    """Return a model trained from the start, in float32, and its history."""
    make_repeatable(settings)
    with precision(settings.precision), strategy_of(devices).scope():
        model = build_compiled(
            settings, spec, classes=len(train.emotions), steps_per_epoch=-(-len(train) // settings.batch_size)
        )
        size = f"{model.count_params():,} parameters; {len(train)} clips, {len(held_out)} held out"
        live_line.keep(f"Trainer  {settings.family}, {size}")
        arguments = fit_arguments(settings, train, held_out, devices=len(devices))
        try:
            fitted = model.fit(**arguments, callbacks=[*training_callbacks(settings), EpochProgress(), *callbacks])
        finally:
            for batches in (arguments["x"], arguments["validation_data"]):
                batches.close()
    history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
    _require_finite(history, settings)
    if settings.precision != "float32" or len(devices) > 1:
        model = rebuilt(model, settings, spec, classes=len(train.emotions))
    return model, history


def fit_arguments(settings: TrainingSettings, train: Split, held_out: Split, *, devices: int = 1) -> dict[str, Any]:
    """Return the arguments of a model's ``fit`` except the callbacks.

    Args:
        settings: Settings of the training.
        train: Clips to train on.
        held_out: Clips to validate on.
        devices: Number of devices that share each batch.

    Raises:
        ValueError: The devices cannot share a batch of ``training.batch_size`` clips evenly.
    """
    train, held_out = (divisible(split, devices) for split in (train, held_out))
    batch_size = settings.batch_size
    if batch_size % max(devices, 1):
        raise ValueError(
            f"training.batch_size is {batch_size} and {devices} accelerators share each batch; allowed: multiples of "
            f"{devices}"
        )
    return {
        "x": TrainingBatches(
            train,
            batch_size=batch_size,
            mixup=settings.mixup,
            seed=settings.seed,
            weights=clip_weights(train, settings.balance),
        ),
        "shuffle": False,  # the batches have their own order
        "epochs": settings.epochs,
        "validation_data": Batches(held_out, batch_size=_EVALUATION_BATCH * max(devices, 1)),
        "verbose": 0,
    }


def predict(model: keras.Model, split: Split) -> np.ndarray:
    """Return the model's probabilities for the clips, float32 ``[clips, emotions]``."""
    starts = range(0, len(split), _EVALUATION_BATCH)
    parts = [model.predict_on_batch(split.inputs(slice(start, start + _EVALUATION_BATCH))) for start in starts]
    return np.concatenate(parts)


def make_repeatable(settings: TrainingSettings) -> None:
    """Seed all random number generators and, if set, make TensorFlow's operations deterministic."""
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Set the dtype policy of Keras for the models that are built in the context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_model(settings: TrainingSettings, spec: AudioSpec, *, classes: int) -> keras.Model:
    """Return the uncompiled model of the settings.

    Args:
        settings: Settings of the training.
        spec: Audio spec of the clips.
        classes: Number of emotions.

    Raises:
        WeightsError: The weights of the encoder whose blocks are trained were not fetched.
    """
    family = settings.model_family
    hyperparameters = family.hyperparameters(settings.hyperparameters)
    if not settings.finetune_blocks:
        return family.build(spec.feature_shape, classes, hyperparameters)
    return with_encoder_blocks(
        lambda shape: family.build(shape, classes, hyperparameters), spec, settings.finetune_blocks
    )


def build_compiled(settings: TrainingSettings, spec: AudioSpec, *, classes: int, steps_per_epoch: int) -> keras.Model:
    """Return a model compiled with Adam or AdamW, categorical cross-entropy and accuracy.

    Args:
        settings: Settings of the training.
        spec: Audio spec of the clips.
        classes: Number of emotions.
        steps_per_epoch: Batches of an epoch, for the learning rate schedule.
    """
    rate: float | keras.optimizers.schedules.LearningRateSchedule = settings.learning_rate
    if settings.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps=settings.epochs * steps_per_epoch)
    model = build_model(settings, spec, classes=classes)
    synchronise_batch_statistics(model)
    optimizer = AdamOfTwoRates(
        rate,
        scaled=model.get_layer(BLOCKS).trainable_variables if settings.finetune_blocks else (),
        factor=settings.finetune_learning_rate_factor,
        weight_decay=settings.weight_decay or None,
    )
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        jit_compile=settings.xla,
    )
    return model


def training_callbacks(settings: TrainingSettings) -> list[keras.callbacks.Callback]:
    """Return the callbacks of the settings: learning rate schedule, early stopping, and a stop at the first NaN."""
    chosen: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN()]
    if settings.learning_rate_schedule == "plateau":
        chosen.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss",
                factor=settings.plateau_factor,
                patience=settings.plateau_patience,
                min_lr=settings.plateau_min_learning_rate,
            )
        )
    if settings.early_stopping_patience:
        chosen.append(
            keras.callbacks.EarlyStopping(
                monitor="val_loss",
                min_delta=settings.early_stopping_min_delta,
                patience=settings.early_stopping_patience,
                restore_best_weights=settings.restore_best_weights,
            )
        )
    return chosen


class EpochProgress(keras.callbacks.Callback):
    """Keras callback that prints one line per epoch, the same on a terminal."""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Reset the durations of the epochs."""
        self._seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock of the epoch."""
        self._started_sec = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Print the metrics, the duration and the remaining time."""
        self._seconds.append(time.monotonic() - self._started_sec)
        epochs = self.params["epochs"]
        measured_sec = self._seconds[1:] or self._seconds  # the first one builds the graph
        left_sec = (epochs - epoch - 1) * sum(measured_sec) / len(measured_sec)
        live_line.show(
            f"Trainer  epoch {epoch + 1}/{epochs}  loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.3f}  "
            f"eval loss {logs['val_loss']:.3f}  eval accuracy {logs['val_accuracy']:.3f}  "
            f"{self._seconds[-1]:.1f} s, at most {left_sec:.0f} s left"
        )


def rebuilt(model: keras.Model, settings: TrainingSettings, spec: AudioSpec, *, classes: int) -> keras.Model:
    """Return the model for serving: in float32, for any processor, and on one device."""
    with precision("float32"):
        served = build_model(settings, spec, classes=classes)
    served.set_weights(model.get_weights())
    return served


def describe_model(model: keras.Model, settings: TrainingSettings) -> dict[str, Any]:
    """Return the description of the network for the model card, with all hyperparameters including defaults."""
    hyperparameters = settings.model_family.hyperparameters(settings.hyperparameters).model_dump()
    if settings.finetune_blocks:
        hyperparameters["finetune_blocks"] = settings.finetune_blocks
    return {"family": settings.family, "parameters": model.count_params(), "hyperparameters": hyperparameters}


def training_report(trained: TrainedModel, settings: TrainingSettings, *, clips: Mapping[str, int]) -> dict[str, Any]:
    """Return the content of ``history.json``.

    Args:
        trained: The trained model.
        settings: Settings of the training.
        clips: Number of clips by split.
    """
    epochs = len(trained.history["loss"])
    return {
        "family": settings.family,
        "settings": settings.model_dump(mode="json"),
        "parameters": trained.model.count_params(),
        "clips": dict(clips),
        "epochs": epochs,
        "kept_epoch": _kept_epoch(trained.history, settings),
        "seconds": trained.seconds,
        "seconds_per_epoch": trained.seconds / epochs,
        "temperature": trained.temperature,
        "operating": trained.operating._asdict() if trained.operating else None,
        "history": trained.history,
    }


def _kept_epoch(history: Mapping[str, list[float]], settings: TrainingSettings) -> int:
    """Return the epoch, counted from 1, whose weights the model has."""
    restored = settings.restore_best_weights and settings.early_stopping_patience
    return 1 + int(np.argmin(history["val_loss"])) if restored else len(history["val_loss"])


def _calibrate(
    model: keras.Model, held_out: Split, settings: TrainingSettings
) -> tuple[float, abstention.Operating | None]:
    if not settings.calibrate and settings.max_error is None:
        return 1.0, None
    probabilities, emotion_ids = predict(model, held_out), held_out.emotion_ids
    temperature = 1.0
    if settings.calibrate:
        temperature = calibration.fit_temperature(probabilities, emotion_ids, held_out.speakers)
    if settings.max_error is None:
        return temperature, None
    calibrated = calibration.apply_temperature(probabilities, temperature)
    return temperature, abstention.fit(calibrated, emotion_ids, held_out.speakers, settings.max_error)


def _require_finite(history: Mapping[str, list[float]], settings: TrainingSettings) -> None:
    for name in ("loss", "val_loss"):
        bad = np.flatnonzero(~np.isfinite(history[name]))
        if len(bad):
            raise TrainingDiverged(
                f"{name} is {history[name][bad[0]]} in epoch {bad[0] + 1}, so no model was exported; lower "
                f"training.learning_rate, which is {settings.learning_rate}, and look for non-finite features"
            )


def _write_text(folder: str, name: str, text: str) -> None:
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(f"{folder}/{name}", "w") as file:
        file.write(text)
