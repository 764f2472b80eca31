"""Train the same model on one and on two logical devices, and print how far apart they are: ``two_devices.py FAMILY``.

A process of its own, because devices are divided before TensorFlow starts.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from modules.audio.spec import AudioSpec
from modules.data.dataset import Split
from modules.models import family_named
from modules.training import trainer, tuner
from modules.training.devices import divisible, strategy_of
from modules.training.settings import TrainingSettings, TuningSettings
from tests import encoder_arrays
from tests.original import ORIGINAL_AUDIO, ORIGINAL_TRAINING

# Without dropout and augmentation: Keras draws the same random numbers on each device, so that two devices with half a
# batch each draw others than one device with the whole batch.
FAMILIES = {
    "original_cnn": {"filters": 4, "dropout": 0.0},
    "attentive_crnn": {
        **dict.fromkeys(["map_dropout", "dropout", "utterance_dropout"], 0.0),
        **dict.fromkeys(["noise", "time_jitter", "band_shift", "band_stretch", "gain"], 0.0),
        "masks": 0,
    },
    "encoder_linear": {"dropout": 0.0},
}
FINETUNED_AUDIO = AudioSpec(
    feature_family="encoder", sample_rate_hz=16_000, window_sec=0.2, encoder_blocks=(1,), encoder_pool_frames=1
)
DEVICES = ["CPU:0", "CPU:1"]
CLIPS, HELD_OUT = 71, 19  # one too many for two devices
BATCH_SIZE = 16


def make_split(clips: int, spec: AudioSpec) -> Split:
    rng = np.random.default_rng(clips)
    emotion_ids = (np.arange(clips) % 7).astype(np.int32)
    shape = (-1, *[1] * len(spec.feature_shape))
    features = rng.normal(size=(clips, *spec.feature_shape)) + 0.3 * emotion_ids.reshape(shape)
    return Split(
        features=features.astype(np.float32),
        valid_frames=np.full(clips, spec.window_frames, np.int32),
        emotion_ids=emotion_ids,
        speakers=np.array([f"speaker-{clip % 4}" for clip in range(clips)], object),
        corpora=np.full(clips, "toy", object),
    )


def search(settings: TrainingSettings, spec: AudioSpec, train: Split, held_out: Split) -> list[str]:
    """Return the status of each trial of a search on both devices."""
    hypermodel = tuner.make_hypermodel(
        settings, spec, classes=len(train.emotions), steps_per_epoch=-(-len(train) // BATCH_SIZE)
    )
    with tempfile.TemporaryDirectory() as folder:
        searcher = tuner.make_tuner(
            hypermodel,
            TuningSettings(max_trials=1, epochs=1),
            settings,
            directory=folder,
            strategy=strategy_of(DEVICES),
        )
        searcher.search(**(trainer.fit_arguments(settings, train, held_out, devices=len(DEVICES)) | {"epochs": 1}))
        return [trial.status for trial in searcher.oracle.trials.values()]


def main(family: str) -> None:
    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * len(DEVICES))
    features, blocks = family_named(family).feature_family, int(family == "encoder_linear")
    spec = FINETUNED_AUDIO if blocks else ORIGINAL_AUDIO.replace(feature_family=features)
    settings = ORIGINAL_TRAINING.replace(
        family=family, finetune_blocks=blocks, hyperparameters=FAMILIES[family], epochs=2, batch_size=BATCH_SIZE,
        mixup=0.3, weight_decay=0.01, plateau_patience=1, restore_best_weights=True,
    )  # fmt: skip
    train, held_out = (make_split(clips, spec) for clips in (CLIPS, HELD_OUT))
    even = [divisible(split, len(DEVICES)) for split in (train, held_out)]
    one = trainer.train_model(settings, spec, *even)
    two = trainer.train_model(settings, spec, train, held_out, devices=DEVICES)
    answers = [trainer.predict(trained.model, held_out) for trained in (one, two)]
    losses = [[*trained.history["loss"], *trained.history["val_loss"]] for trained in (one, two)]
    print(json.dumps({
        "probabilities": float(np.abs(answers[0] - answers[1]).max()),
        "losses": float(np.abs(np.subtract(*losses)).max()),
        "variables": sorted({type(variable.value).__name__ for variable in two.model.variables}),
        "trials": search(settings, spec, train, held_out),
    }))  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as encoders, encoder_arrays.fetched(Path(encoders, "encoders")):
        main(sys.argv[1])
