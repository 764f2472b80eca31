import keras
import keras_tuner
import numpy as np
import pytest
from pydantic import ValidationError
from scipy import fft

from modules.models import FAMILIES, build
from modules.models.attentive_crnn import AttentiveCrnnHyperparameters
from modules.models.spectrogram_layers import (
    AlignedSpeech,
    FrequencyWarp,
    NoiseFloor,
    RandomGain,
    SpecMask,
    cosine_transform,
    interpolation,
    time_statistics,
)

FRAMES, BANDS, CLASSES = 60, 64, 7
STILL = {
    **{"dropout": 0.0, "map_dropout": 0.0, "utterance_dropout": 0.0},
    **{"time_jitter": 0.0, "band_shift": 0.0, "band_stretch": 0.0, "gain": 0.0, "masks": 0},
}


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    valid = np.array([FRAMES, 41, 7, 1], np.int32)
    features = np.random.default_rng(0).normal(size=(4, FRAMES, BANDS)).astype(np.float32)
    features[np.arange(FRAMES)[None] >= valid[:, None]] = 0
    return {"features": features, "valid_frames": valid}


def small(seed: int, **hyperparameters: object) -> keras.Model:
    keras.utils.set_random_seed(seed)
    values = {"frames": 16, "filters": 8, "recurrent_units": 8, "attention_units": 8, **hyperparameters}
    return build("attentive_crnn", input_shape=(FRAMES, BANDS), classes=CLASSES, hyperparameters=values)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return small(seed=3)


def numbers(tensor: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def answers(model: keras.Model, inputs: dict[str, np.ndarray], training: bool = False) -> np.ndarray:
    return numbers(model(inputs, training=training))


def test_output_is_one_probability_per_class(model, inputs):
    probabilities = answers(model, inputs)
    assert probabilities.shape == (4, CLASSES)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(108, 128), (151, 128), (188, 64), (130, 40), (10, 1)])
def test_defaults_stay_below_a_million_parameters(shape):
    assert build("attentive_crnn", input_shape=shape, classes=CLASSES).count_params() <= 1_000_000


def test_frames_after_the_valid_ones_have_no_effect(model, inputs):
    filled = inputs["features"].copy()
    filled[np.arange(FRAMES)[None] >= inputs["valid_frames"][:, None]] = 5
    assert (filled != inputs["features"]).any()
    np.testing.assert_allclose(answers(model, {**inputs, "features": filled}), answers(model, inputs), atol=1e-6)


def test_where_the_speech_lies_in_the_silence_does_not_matter(model):
    speech = np.random.default_rng(1).normal(size=(1, 20, BANDS)).astype(np.float32)
    clips = np.full((2, FRAMES, BANDS), -5, np.float32)
    clips[0, 4:24], clips[1, 33:53] = speech, speech
    early, late = answers(model, {"features": clips, "valid_frames": np.full(2, FRAMES, np.int32)})
    np.testing.assert_allclose(early, late, atol=1e-4)


def test_augmentation_and_dropout_act_in_training_alone(model, inputs):
    np.testing.assert_array_equal(answers(model, inputs), answers(model, inputs))
    assert np.abs(answers(model, inputs, training=True) - answers(model, inputs, training=True)).max() > 1e-4


def test_a_seed_repeats_the_weights_and_the_augmentation(inputs):
    first, again, other = (answers(small(seed), inputs, training=True) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_it_fits_a_small_batch(inputs):
    model = small(seed=1, **STILL)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.CategoricalCrossentropy())
    targets = np.eye(CLASSES, dtype=np.float32)[[0, 3, 3, 6]]
    losses = [float(model.train_on_batch(inputs, targets)) for _ in range(6)]
    assert losses[-1] < 0.5 * losses[0]


def test_silence_gives_no_broken_gradient():
    model = small(seed=1)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.CategoricalCrossentropy())
    silence = {"features": np.zeros((2, FRAMES, BANDS), np.float32), "valid_frames": np.array([FRAMES, 1], np.int32)}
    model.train_on_batch(silence, np.eye(CLASSES, dtype=np.float32)[[0, 1]])
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@pytest.mark.parametrize("values", [{"filters": 0}, {"frames": 4}, {"dropout": 1.0}, {"noise": 1.5}, {"gain": -0.1}])
def test_hyperparameters_that_make_no_model_are_refused(values):
    with pytest.raises(ValidationError) as error:
        AttentiveCrnnHyperparameters(**values)
    assert [problem["loc"] for problem in error.value.errors()] == [tuple(values)]


def test_every_searched_default_is_the_familys_own():
    defaults = AttentiveCrnnHyperparameters()
    hp = keras_tuner.HyperParameters()
    assert FAMILIES["attentive_crnn"].search_space(hp, defaults) == defaults
    assert {part.name for part in hp.space} <= set(vars(defaults))


def test_aligned_speech_starts_and_ends_with_the_speech():
    clip = np.full((1, 100, BANDS), -2, np.float32)
    clip[0, 30:70] = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    valid = np.array([100], np.int32)
    aligned, share = AlignedSpeech(21, margin=0.0)(clip, valid)
    assert numbers(share).item() == pytest.approx(0.39, abs=0.02)
    np.testing.assert_allclose(numbers(aligned)[0, :, 0], np.linspace(0, 1, 21), atol=0.05)


def test_aligned_speech_ignores_loud_padding():
    clip = np.full((1, 100, BANDS), -2, np.float32)
    clip[0, 30:50], clip[0, 60:] = 1, 9
    aligned, _ = AlignedSpeech(16, margin=0.0)(clip, np.array([60], np.int32))
    np.testing.assert_allclose(numbers(aligned), 1, atol=1e-5)


def test_jitter_moves_both_ends_in_training_alone():
    clips = np.broadcast_to(np.linspace(0, 1, 100, dtype=np.float32)[None, :, None], (64, 100, BANDS))
    layer = AlignedSpeech(16, jitter=0.1, margin=0.0, range=9.0, seed=0)
    valid = np.full(64, 100, np.int32)
    still = numbers(layer(clips, valid, training=False)[0])
    moved = numbers(layer(clips, valid, training=True)[0])
    np.testing.assert_array_equal(still[0], still[1])
    for end in (0, -1):
        steps = moved[:, end, 0] - still[:, end, 0]
        assert 0.02 < np.abs(steps).max() <= 0.1
    assert abs(np.corrcoef(moved[:, 0, 0], moved[:, -1, 0])[0, 1]) < 0.5


def test_frequency_warp_moves_bands_within_the_bounds():
    ramp = np.broadcast_to(np.arange(BANDS, dtype=np.float32), (64, 3, BANDS))
    warped = numbers(FrequencyWarp(0.1, 0.0, seed=0)(ramp, training=True))
    shifts = warped[:, :, 32] - 32
    assert np.abs(shifts).max() <= 0.1 * BANDS
    assert shifts.std() > 0.02 * BANDS
    np.testing.assert_allclose(warped[:, 0], np.clip(np.arange(BANDS) + shifts[:, :1], 0, BANDS - 1), atol=1e-4)


def test_gain_is_the_same_in_all_cells_of_a_clip():
    clips = np.zeros((512, 4, 3), np.float32)
    gained = numbers(RandomGain(0.5, seed=0)(clips, training=True))
    np.testing.assert_array_equal(gained, np.broadcast_to(gained[:, :1, :1], clips.shape))
    assert gained[:, 0, 0].std() == pytest.approx(0.5, rel=0.15)


def test_noise_replaces_softer_frames_in_a_share_of_clips():
    clips = np.full((256, 4, BANDS), -9, np.float32)
    clips[:, :, 3] = 9
    filled = numbers(NoiseFloor(0.5, seed=0)(clips, training=True))
    touched = (filled != clips).any(axis=(1, 2))
    assert 0.35 < touched.mean() < 0.65
    np.testing.assert_allclose(filled[:, :, 3], 9, atol=1e-4)  # what is louder stays
    floors = np.delete(filled[touched], 3, axis=2)
    assert floors.min() > -3
    assert floors.mean(axis=(1, 2)).std() > 0.5


def test_noise_adds_powers():
    clips = np.zeros((1, 200, BANDS), np.float32)
    alone = numbers(NoiseFloor(1.0, seed=3)(clips - 9, training=True))
    together = numbers(NoiseFloor(1.0, seed=3)(clips, training=True))
    unit_db = 24
    expected_db = 10 * np.log10(1 + 10 ** (alone * unit_db / 10))
    np.testing.assert_allclose(together * unit_db, expected_db, atol=1e-2)


def test_masks_blank_whole_stripes_no_wider_than_allowed():
    masked = numbers(SpecMask(1, 0.25, seed=0)(np.ones((64, FRAMES, BANDS), np.float32), training=True))
    assert set(np.unique(masked)) == {0.0, 1.0}
    blank_frames = (masked == 0).all(axis=2).sum(axis=1)
    blank_bands = (masked == 0).all(axis=1).sum(axis=1)
    assert 0 < blank_frames.max() <= 0.25 * FRAMES + 1
    assert 0 < blank_bands.max() <= 0.25 * BANDS + 1
    np.testing.assert_array_equal(masked, masked.max(axis=2)[:, :, None] * masked.max(axis=1)[:, None, :])


@pytest.mark.parametrize("layer", [FrequencyWarp(0.1, 0.1), NoiseFloor(1.0), RandomGain(1.0), SpecMask(2, 0.2)])
def test_augmentation_hands_on_unchanged_outside_training(layer, inputs):
    np.testing.assert_array_equal(numbers(layer(inputs["features"], training=False)), inputs["features"])


def test_cosine_transform_is_the_orthonormal_one():
    values = np.random.default_rng(0).normal(size=(2, 3, 20)).astype(np.float32)
    expected = fft.dct(values, norm="ortho")[:, :, :12]
    np.testing.assert_allclose(numbers(cosine_transform(keras.ops.convert_to_tensor(values), 12)), expected, atol=1e-5)


def test_interpolation_reads_between_and_stops_at_the_ends():
    weights = numbers(interpolation(keras.ops.convert_to_tensor([[-3.0, 0.0, 1.25, 9.0]]), 4))
    np.testing.assert_allclose(weights @ np.array([10.0, 20.0, 30.0, 40.0]), [[10, 10, 22.5, 40]], atol=1e-5)


def test_time_statistics_are_numpys():
    values = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32)
    steps = np.diff(values, axis=1)
    expected = np.concatenate([values.mean(1), values.std(1), steps.std(1), np.abs(steps).mean(1)], axis=1)
    np.testing.assert_allclose(numbers(time_statistics(keras.ops.convert_to_tensor(values))), expected, atol=1e-4)
