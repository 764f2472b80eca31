import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from modules.audio.spec import AudioSpecMismatch
from modules.common.arrays import ArrayOnDisk
from modules.data.dataset import joined, read_split
from modules.evaluation.abstention import PromiseOutOfReach
from modules.evaluation.calibration import apply_temperature
from modules.training import trainer
from tests.original import ORIGINAL_AUDIO, ORIGINAL_TRAINING


@pytest.fixture(scope="module")
def splits(transformed):
    transform = tft.TFTransformOutput(transformed.graph_dir)
    return (
        read_split(transformed.train_files, transform, transformed.spec),
        read_split(transformed.eval_files, transform, transformed.spec),
    )


def test_split_is_ordered_and_whole(splits):
    train, held_out = splits
    assert (len(train), len(held_out)) == (84, 28)
    assert train.features.shape == (84, 270)
    assert train.emotion_ids.tolist() == np.repeat(range(7), 12).tolist()  # the folders are named by emotion
    np.testing.assert_array_equal(train.targets.argmax(axis=1), train.emotion_ids)
    assert set(train.corpora) == {b"toy"}
    assert {speaker.decode().partition("-")[0] for speaker in train.speakers} == {"toy"}
    np.testing.assert_allclose(train.features.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.features.std(axis=0), 1, atol=1e-5)


def test_order_does_not_depend_on_how_examples_lie_in_files(transformed, splits, tmp_path):
    files = sorted(tf.io.gfile.glob(transformed.train_files[0]))
    records = list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(tmp_path / "only"), options) as writer:
        for record in records[::-1]:
            writer.write(record)
    reread = read_split([str(tmp_path / "*")], tft.TFTransformOutput(transformed.graph_dir), transformed.spec)
    np.testing.assert_array_equal(reread.features, splits[0].features)
    np.testing.assert_array_equal(reread.emotion_ids, splits[0].emotion_ids)


@pytest.mark.parametrize("weighted", [{}, {"balance": "speaker", "mixup": 0.3}])
def test_features_on_disk_train_the_same_model(transformed, splits, weighted):
    transform = tft.TFTransformOutput(transformed.graph_dir)
    on_disk = [
        read_split(files, transform, transformed.spec, max_bytes=0)
        for files in (transformed.train_files, transformed.eval_files)
    ]
    assert {type(split.features) for split in on_disk} == {ArrayOnDisk}
    settings = ORIGINAL_TRAINING.replace(epochs=2, hyperparameters={"filters": 4}, **weighted)
    in_memory, from_disk = (trainer.train_model(settings, transformed.spec, *pair) for pair in (splits, on_disk))
    assert from_disk.history == in_memory.history
    np.testing.assert_array_equal(
        trainer.predict(from_disk.model, on_disk[1]), trainer.predict(in_memory.model, splits[1])
    )


def test_training_keeps_no_clips(transformed):
    def split(files):
        return read_split(files, tft.TFTransformOutput(transformed.graph_dir), transformed.spec)

    train, held_out, test = map(split, (transformed.train_files, transformed.eval_files, transformed.eval_files))
    kept = [weakref.ref(clips) for clips in (train, held_out, test)]
    settings = ORIGINAL_TRAINING.replace(epochs=1, hyperparameters={"filters": 4})
    trained = trainer.train_model(settings, transformed.spec, train, held_out)
    trainer.predict(trained.model, test)
    del train, held_out, test
    gc.collect()
    assert not any(clips() for clips in kept)


def test_examples_of_another_spec_are_refused(transformed):
    other = ORIGINAL_AUDIO.replace(window_sec=3.0)
    with pytest.raises(AudioSpecMismatch, match=transformed.spec.fingerprint):
        read_split(transformed.train_files, tft.TFTransformOutput(transformed.graph_dir), other)


def test_no_examples_is_an_error(transformed, tmp_path):
    with pytest.raises(FileNotFoundError, match="0 files"):
        read_split([str(tmp_path / "*")], tft.TFTransformOutput(transformed.graph_dir), transformed.spec)


def test_run_fn_leaves_a_model_and_its_history(exported):
    assert Path(exported.serving_model_dir, "saved_model.pb").is_file()
    assert not Path(f"{exported.serving_model_dir}.partial").exists()
    report = json.loads(Path(exported.model_run_dir, "history.json").read_text())
    assert report["epochs"] == len(report["history"]["val_loss"]) == 2
    assert report["clips"] == {"train": 84, "eval": 28}
    assert list(Path(exported.model_run_dir, "logs").rglob("events.out.tfevents.*"))


def test_progress_shows_epochs_and_remaining_time(splits, quick_settings, capfd):
    trainer.train_model(quick_settings, ORIGINAL_AUDIO, *splits)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Trainer  epoch")]
    assert [line.split("  ")[1] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("eval accuracy" in line and "s left" in line for line in lines)


def test_same_input_gives_same_weights(splits, quick_settings):
    first, second = (trainer.train_model(quick_settings, ORIGINAL_AUDIO, *splits) for _ in range(2))
    assert first.history["loss"] == second.history["loss"]
    for one, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_separable_classes_are_learned(splits):
    settings = ORIGINAL_TRAINING.replace(
        epochs=12, batch_size=8, early_stopping_patience=0, hyperparameters={"filters": 8}
    )
    trained = trainer.train_model(settings, ORIGINAL_AUDIO, *splits)
    assert trained.history["accuracy"][-1] > 0.8  # chance is 1/7


def test_a_promised_error_chooses_the_confidence_on_the_held_out_clips(splits, quick_settings):
    _, held_out = splits
    trained = trainer.train_model(quick_settings.replace(max_error=0.9), ORIGINAL_AUDIO, *splits)
    calibrated = apply_temperature(trainer.predict(trained.model, held_out), trained.temperature)
    answered = calibrated.max(axis=1) >= trained.operating.min_confidence
    wrong = calibrated.argmax(axis=1) != held_out.emotion_ids
    assert (wrong[answered].sum() + 1) / (answered.sum() + 1) <= 0.9
    assert trained.operating.coverage == pytest.approx(answered.mean())


def test_refit_trains_on_the_clips_that_calibrated(splits, quick_settings):
    settings = quick_settings.replace(
        learning_rate_schedule="cosine", early_stopping_patience=0, hyperparameters={"filters": 4}
    )
    train, held_out = splits
    everything = joined(train, held_out)
    assert (len(everything), len(set(everything.speakers))) == (112, len({*train.speakers, *held_out.speakers}))
    without, refitted, expected = (
        trainer.train_model(settings.replace(refit=refit), ORIGINAL_AUDIO, clips, held_out)
        for refit, clips in ((False, train), (True, train), (False, everything))
    )
    assert refitted.temperature == without.temperature
    assert refitted.history == without.history
    np.testing.assert_array_equal(
        trainer.predict(refitted.model, everything), trainer.predict(expected.model, everything)
    )


def test_refit_needs_fixed_epochs(quick_settings):
    with pytest.raises(ValueError, match="allowed with refit"):
        quick_settings.replace(early_stopping_patience=3, learning_rate_schedule="cosine", refit=True)
    with pytest.raises(ValueError, match="allowed with refit"):
        quick_settings.replace(early_stopping_patience=0, learning_rate_schedule="plateau", refit=True)


def test_an_error_that_cannot_be_promised_is_refused(splits, quick_settings):
    with pytest.raises(PromiseOutOfReach, match=r"training\.max_error is 0\.001"):
        trainer.train_model(quick_settings.replace(max_error=0.001), ORIGINAL_AUDIO, *splits)


def test_a_non_finite_loss_stops_the_training(splits, quick_settings):
    settings = quick_settings.replace(learning_rate=1e30)
    with pytest.raises(trainer.TrainingDiverged, match=r"(nan|inf) in epoch 1.*training\.learning_rate"):
        trainer.train_model(settings, ORIGINAL_AUDIO, *splits)


def test_non_finite_features_are_refused(transformed, tmp_path):
    files = sorted(tf.io.gfile.glob(transformed.train_files[0]))
    record = next(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())
    example = tf.train.Example.FromString(record)
    example.features.feature["features"].float_list.value[3] = float("nan")
    with tf.io.TFRecordWriter(str(tmp_path / "one"), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        writer.write(example.SerializeToString())
    with pytest.raises(ValueError, match="1 of "):
        read_split([str(tmp_path / "*")], tft.TFTransformOutput(transformed.graph_dir), transformed.spec)


def test_half_precision_gives_a_float32_model(splits):
    settings = ORIGINAL_TRAINING.replace(
        epochs=1, precision="mixed_float16", hyperparameters={"filters": 4}, calibrate=False
    )
    trained = trainer.train_model(settings, ORIGINAL_AUDIO, *splits)
    assert {layer.compute_dtype for layer in trained.model.layers} <= {"float32", "int32"}
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_xla_trains(transformed):
    # in a process of its own, because TensorFlow's deterministic operations cannot be switched off again
    script = f"""
import tensorflow_transform as tft
from modules.training import trainer
from modules.data.dataset import joined, read_split
from tests.original import ORIGINAL_AUDIO, ORIGINAL_TRAINING
quick = {{"epochs": 1, "hyperparameters": {{"filters": 4}}, "calibrate": False}}
settings = ORIGINAL_TRAINING.replace(xla=True, deterministic=False, **quick)
transform = tft.TFTransformOutput({transformed.graph_dir!r})
files_of = {transformed.train_files}, {transformed.eval_files}
splits = [read_split(files, transform, ORIGINAL_AUDIO) for files in files_of]
trained = trainer.train_model(settings, ORIGINAL_AUDIO, *splits)
print(trained.model.jit_compile, trained.history["loss"][0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled, loss = done.stdout.split()
    assert compiled == "True"
    assert np.isfinite(float(loss))


def test_tuned_hyperparameters_replace_configured_ones():
    import keras_tuner

    settings = ORIGINAL_TRAINING.replace(hyperparameters={"filters": 128, "dropout": 0.4})
    hp = keras_tuner.HyperParameters()
    settings.model_family.search_space(hp, settings.model_family.hyperparameters({}))
    hp.values |= {"filters": 16, "kernel": 7}
    tuned = trainer.with_tuned_hyperparameters(settings, hp.get_config())
    assert tuned.hyperparameters == {"filters": 16, "kernel": 7, "pool": 2, "dropout": 0.2}
    assert trainer.with_tuned_hyperparameters(settings, None) is settings


def test_callbacks_are_those_of_the_settings():
    plateau, stopping = trainer.training_callbacks(ORIGINAL_TRAINING)[1:]
    assert (plateau.monitor, plateau.factor, plateau.patience, plateau.min_lr) == ("val_loss", 0.4, 2, 1e-6)
    assert (stopping.monitor, abs(stopping.min_delta), stopping.patience) == ("val_loss", 0.001, 4)
    kinds = [
        type(x).__name__ for x in trainer.training_callbacks(ORIGINAL_TRAINING.replace(learning_rate_schedule="cosine"))
    ]
    assert kinds == ["TerminateOnNaN", "EarlyStopping"]


def test_config_survives_json(transformed, quick_settings):
    config = json.loads(json.dumps(trainer.trainer_config(transformed.spec, quick_settings)))
    assert trainer.read_config(config) == (transformed.spec, quick_settings)


def test_family_and_features_must_match():
    with pytest.raises(ValueError, match=r"utterance.*audio\.feature_family is logmel"):
        trainer.trainer_config(ORIGINAL_AUDIO.replace(feature_family="logmel"), ORIGINAL_TRAINING)
