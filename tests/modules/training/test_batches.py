import numpy as np
import pytest

from modules.data.dataset import Split
from modules.training.balancing import clip_weights
from modules.training.batches import TrainingBatches
from modules.training.trainer import predict, train_model
from tests.original import ORIGINAL_AUDIO, ORIGINAL_TRAINING

CLIPS = 50


@pytest.fixture(scope="module")
def split() -> Split:
    """Every feature of a clip is the clip's number."""
    numbers = np.arange(CLIPS)
    return Split(
        features=np.broadcast_to(numbers[:, None, None], (CLIPS, 4, 3)).astype(np.float32),
        valid_frames=numbers.astype(np.int32),
        emotion_ids=(numbers % 7).astype(np.int32),
        speakers=np.full(CLIPS, "one"),
        corpora=np.full(CLIPS, "toy"),
    )


def joined(epoch: list[tuple]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    inputs, targets = zip(*epoch, strict=True)
    features, frames = (np.concatenate([part[name] for part in inputs]) for name in ("features", "valid_frames"))
    return features, frames, np.concatenate(targets)


def mixed(split: Split, *, alpha: float = 1.0, seed: int = 0, epochs: int = 1) -> list[tuple]:
    batches = TrainingBatches(split, batch_size=8, mixup=alpha, seed=seed)
    per_epoch = []
    for _ in range(epochs):
        per_epoch.append(joined([batches[index] for index in range(len(batches))]))
        batches.on_epoch_end()
    return per_epoch


def test_every_clip_leads_one_mixture(split):
    ((features, frames, targets),) = mixed(split)
    assert sorted(frames) == list(range(CLIPS))
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert targets[np.arange(CLIPS), frames % 7].min() >= 0.5
    assert (features == features[:, :1, :1]).all()  # one share for the whole clip


def test_features_and_labels_are_mixed_in_the_same_shares(split):
    ((features, frames, targets),) = mixed(split)
    for value, kept, target in zip(features[:, 0, 0], frames, targets, strict=True):
        share = target[kept % 7]
        if share == 1:  # mixed with itself or with another clip of its class
            continue
        added = (value - share * kept) / (1 - share)
        assert added == pytest.approx(round(added), abs=1e-2)
        assert target[round(added) % 7] == pytest.approx(1 - share, abs=1e-6)


def test_a_small_alpha_mixes_little(split):
    def added(alpha: float) -> float:
        ((_, frames, targets),) = mixed(split, alpha=alpha)
        return 1 - targets[np.arange(CLIPS), frames % 7].mean()

    assert added(0.01) < 0.02 < added(5.0)


def test_mixtures_depend_on_seed_and_epoch_alone(split):
    first, second = mixed(split, epochs=2)
    again = mixed(split)[0]
    other = mixed(split, seed=1)[0]
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert (first[1] != second[1]).any()
    assert (first[1] != other[1]).any()


def test_the_order_is_drawn_once_in_an_epoch(split, monkeypatch):
    drawn = []

    class Generator(np.random.Generator):
        def permutation(self, values: int) -> np.ndarray:
            drawn.append(values)
            return super().permutation(values)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Generator(np.random.PCG64(seed)))
    batches = TrainingBatches(split, batch_size=8, mixup=1.0, seed=0)
    for index in range(len(batches)):
        batches[index]
    assert sum(drawn) == 2 * CLIPS  # the order of all clips, and the pairs of each batch


def test_training_with_mixup_is_reproducible():
    spec = ORIGINAL_AUDIO.replace(feature_family="logmel", window_sec=0.5, mel_bands=16, mfcc_coefficients=16)
    rng = np.random.default_rng(0)
    clips = Split(
        features=rng.normal(size=(20, *spec.feature_shape)).astype(np.float32),
        valid_frames=np.full(20, spec.window_frames, np.int32),
        emotion_ids=(np.arange(20) % 7).astype(np.int32),
        speakers=np.repeat(["one", "two"], 10),
        corpora=np.repeat(["small", "large"], [5, 15]),
    )
    small = {"frames": 8, "filters": 4, "recurrent_units": 4, "attention_units": 4, "utterance_units": 4}
    settings = ORIGINAL_TRAINING.replace(
        family="attentive_crnn", epochs=2, batch_size=8, mixup=0.3, hyperparameters=small
    )
    losses = [
        train_model(chosen, spec, clips, clips).history["loss"]
        for chosen in (settings, settings, settings.replace(mixup=0.0))
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        ("none", None),
        ("emotion", [1.5, 1.5, 0.75, 0.75, 0.75, 0.75]),
        ("corpus", [0.6, 0.6, 0.6, 0.6, 0.6, 3.0]),
        ("speaker", [2 / 3, 2 / 3, 2 / 3, 1.0, 1.0, 2.0]),
    ],
)
def test_groups_weigh_the_same_and_clips_1_on_average(balance, expected):
    clips = Split(
        features=np.zeros((6, 4, 3), np.float32),
        valid_frames=np.full(6, 4, np.int32),
        emotion_ids=np.array([0, 0, 1, 1, 1, 1], np.int32),
        speakers=np.array([name.encode() for name in ("ä-1", "ä-1", "ä-1", "ä-2", "ä-2", "b-1")], object),
        corpora=np.array([b"a", b"a", b"a", b"a", b"a", b"b"], object),
    )
    weights = clip_weights(clips, balance)
    if expected is None:
        assert weights is None
    else:
        np.testing.assert_allclose(weights, expected, rtol=1e-6)
        assert weights.dtype == np.float32
        assert weights.mean() == pytest.approx(1)


def test_weights_follow_their_clips_through_the_order_and_the_mixtures(split):
    weights = np.arange(CLIPS, dtype=np.float32)
    for alpha in (0.0, 1.0):
        batches = TrainingBatches(split, batch_size=8, mixup=alpha, seed=0, weights=weights)
        for inputs, _, of_batch in map(batches.__getitem__, range(len(batches))):
            # Every feature of a clip is its number, and so is its weight.
            np.testing.assert_allclose(of_batch, inputs["features"][:, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(("balance", "expected"), [("none", 0.1), ("emotion", 0.5)])
def test_a_model_without_information_learns_the_balanced_share_of_an_emotion(balance, expected):
    spec = ORIGINAL_AUDIO
    clips = Split(
        features=np.zeros((60, *spec.feature_shape), np.float32),
        valid_frames=np.full(60, spec.window_frames, np.int32),
        emotion_ids=np.repeat([0, 1], [54, 6]).astype(np.int32),
        speakers=np.array(["one", "two"] * 30),
        corpora=np.full(60, "toy"),
        emotions=("angry", "sad"),
    )
    settings = ORIGINAL_TRAINING.replace(
        epochs=60, batch_size=60, early_stopping_patience=0, learning_rate=0.05, learning_rate_schedule="constant",
        hyperparameters={"filters": 4}, calibrate=False, balance=balance,
    )  # fmt: skip
    model = train_model(settings, spec, clips, clips).model
    assert predict(model, clips)[:, 1].mean() == pytest.approx(expected, abs=0.02)
