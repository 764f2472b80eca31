"""Training of an encoder's block with the head: two steps, and the model that is served."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from modules.audio import features
from modules.audio.spec import AudioSpec
from modules.data.dataset import Split
from modules.export import signatures
from modules.models.encoder_blocks import BLOCKS
from modules.training import trainer
from modules.training.settings import TrainingSettings
from tests import encoder_arrays, exports

SPEC = AudioSpec(
    feature_family="encoder", sample_rate_hz=16_000, window_sec=0.7, encoder_blocks=(1,), encoder_pool_frames=1
)
RATE, FACTOR = 0.001, 0.1
TWO_STEPS = TrainingSettings(
    family="encoder_linear",
    finetune_blocks=1,
    finetune_learning_rate_factor=FACTOR,
    hyperparameters={"dropout": 0.0},
    epochs=2,
    batch_size=8,
    learning_rate=RATE,
    learning_rate_schedule="constant",
    weight_decay=0.0,
    mixup=0.0,
    calibrate=False,
)
KEY_BIAS = 5
"""Position of the keys' bias among the weights of a block: the softmax does not depend on it."""


@pytest.fixture(scope="module", autouse=True)
def encoder(tmp_path_factory):
    with encoder_arrays.fetched(tmp_path_factory.mktemp("weights") / "encoders"):
        yield


@pytest.fixture(scope="module")
def waveforms() -> np.ndarray:
    """Eight clips of 0.5 s, noise whose share of high frequencies falls from the first to the last."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((8, 8_000)).astype(np.float32)
    return 0.1 * (noise + np.linspace(-1, 1, 8)[:, np.newaxis] * np.roll(noise, 1, axis=1)).astype(np.float32)


@pytest.fixture(scope="module")
def split(waveforms) -> Split:
    valid_samples = np.full(8, waveforms.shape[1], np.int32)
    padded = np.pad(waveforms, [(0, 0), (0, SPEC.window_samples - waveforms.shape[1])])
    return Split(
        features=features.extract(padded, valid_samples, SPEC).numpy(),
        valid_frames=features.valid_frames(valid_samples, SPEC).numpy().astype(np.int32),
        emotion_ids=(np.arange(8) // 2).astype(np.int32),
        speakers=np.array(["toy-01", "toy-02"] * 4, object),
        corpora=np.full(8, "toy", object),
    )


@pytest.fixture(scope="module")
def trained(split) -> trainer.TrainedModel:
    return trainer.train_model(TWO_STEPS, SPEC, split, split)


def changes(model: keras.Model) -> list[float]:
    """Return the largest change of each array of the block."""
    before = trainer.build_model(TWO_STEPS, SPEC, classes=7)
    blocks = [part.get_layer(BLOCKS).get_weights() for part in (before, model)]
    return [float(np.abs(new - old).max()) for old, new in zip(*blocks, strict=True)]


def test_two_steps_change_the_block_and_lower_the_loss(trained):
    first, second = trained.history["loss"]
    assert second < first
    largest = changes(trained.model)
    assert len(largest) == 16
    assert min(np.delete(largest, KEY_BIAS)) > 0.5 * RATE * FACTOR


def test_the_block_has_a_smaller_learning_rate_than_the_head(split, trained):
    largest = changes(trained.model)
    assert max(largest) < 2.1 * RATE * FACTOR  # a step of Adam is about as long as the rate
    fast = trainer.train_model(TWO_STEPS.replace(finetune_learning_rate_factor=1.0), SPEC, split, split)
    assert 2.1 * RATE > max(changes(fast.model)) > 5 * max(largest)


def test_half_precision_trains_the_block_and_gives_a_float32_model(split):
    settings = TWO_STEPS.replace(precision="mixed_bfloat16")
    model = trainer.train_model(settings, SPEC, split, split).model
    largest = changes(model)
    assert min(np.delete(largest, KEY_BIAS)) > 0
    assert {layer.compute_dtype for layer in model.get_layer(BLOCKS).layers} == {"float32"}


def test_saved_weights_of_a_fold_give_the_same_model(trained, split, tmp_path):
    trained.model.save_weights(tmp_path / "fold.weights.h5")
    loaded = trainer.build_model(TWO_STEPS, SPEC, classes=7)
    loaded.load_weights(tmp_path / "fold.weights.h5")
    np.testing.assert_allclose(trainer.predict(loaded, split), trainer.predict(trained.model, split), atol=1e-6)


def test_the_model_card_names_the_trained_blocks(trained):
    description = trainer.describe_model(trained.model, TWO_STEPS)
    assert description["hyperparameters"] == {"dropout": 0.0, "finetune_blocks": 1}
    assert description["parameters"] > 1_700_000


def test_the_served_model_gives_the_probabilities_of_the_trainer(trained, split, waveforms, tmp_path):
    exports.write_transform_graph(SPEC, tmp_path / "graph", "none")
    transform = tft.TFTransformOutput(str(tmp_path / "graph"))
    signatures.export(trained.model, transform, SPEC, str(tmp_path / "model"))
    served = tf.saved_model.load(str(tmp_path / "model")).signatures
    expected = trainer.predict(trained.model, split)
    assert np.ptp(expected, axis=0).max() > 1e-3, "every clip has the same probabilities"
    samples = tf.constant([waveform.astype("<f4").tobytes() for waveform in waveforms])
    of_sound = served["waveform"](waveform=samples, sample_rate_hz=tf.fill([8], SPEC.sample_rate_hz))
    valid_frames = tf.constant(split.valid_frames, tf.int64)
    of_features = served["features"](features=split.features, valid_frames=valid_frames, speech=tf.ones(8))
    for answer in (of_sound, of_features):
        assert set(answer["error"].numpy()) == {b""}
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-4)
