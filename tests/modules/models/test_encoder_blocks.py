"""Blocks of the encoder in Keras, compared with the frozen encoder in TensorFlow."""

import keras
import numpy as np
import pytest

from modules.audio import features
from modules.audio.encoder import catalog, weights
from modules.audio.spec import AudioSpec
from modules.models.encoder_blocks import POOL_FRAMES, encoder_blocks, with_encoder_blocks
from modules.models.family import FEATURES, VALID_FRAMES
from tests import encoder_arrays

FROZEN = AudioSpec(feature_family="encoder", sample_rate_hz=16_000, window_sec=0.7, encoder_blocks=(2,))


def spec_of(block: int) -> AudioSpec:
    return FROZEN.replace(encoder_blocks=(block,), encoder_pool_frames=1)


@pytest.fixture(scope="module", params=["random", "published"])
def clips(request, tmp_path_factory):
    """A whole window of sound and one that ends earlier, under weights that are there."""
    rng = np.random.default_rng(0)
    waveforms = (0.1 * rng.standard_normal((2, FROZEN.window_samples))).astype(np.float32)
    clips = waveforms, np.array([FROZEN.window_samples, 6_000], np.int32)
    if request.param == "random":
        with encoder_arrays.fetched(tmp_path_factory.mktemp("weights") / "encoders"):
            yield clips
        return
    if not weights.weights_file(catalog.encoder_named(FROZEN.encoder)).is_file():
        pytest.skip("the published weights were not fetched (ser encoder fetch)")
    yield clips


@pytest.mark.parametrize("blocks", [1, 2])
def test_untrained_blocks_give_the_outputs_of_the_frozen_encoder(clips, blocks):
    before, after = (features.extract(*clips, spec_of(block)).numpy() for block in (2 - blocks, 2))
    outputs = encoder_blocks(spec_of(2 - blocks), blocks)(before).numpy()
    assert np.abs(outputs[1, -1]).max() > 0.1, "frames beyond the end of a clip are those of silence"
    np.testing.assert_allclose(outputs, after, rtol=1e-3, atol=1e-3)


def test_an_untrained_model_reads_the_features_of_the_frozen_encoder(clips):
    def frames_alone(shape: tuple[int, ...]) -> keras.Model:
        frames, valid = keras.Input(shape, name=FEATURES), keras.Input((), dtype="int32", name=VALID_FRAMES)
        return keras.Model({FEATURES: frames, VALID_FRAMES: valid}, [frames, valid])

    spec, (_, valid_samples) = spec_of(1), clips
    valid_frames = features.valid_frames(valid_samples, spec).numpy().astype(np.int32)
    model = with_encoder_blocks(frames_alone, spec, 1)
    frames, valid = model.predict_on_batch(
        {FEATURES: features.extract(*clips, spec).numpy(), VALID_FRAMES: valid_frames}
    )
    assert FROZEN.encoder_pool_frames == POOL_FRAMES
    assert valid.tolist() == features.valid_frames(valid_samples, FROZEN).numpy().tolist()
    normalised = features.extract(*clips, FROZEN) / np.sqrt(1 + keras.layers.BatchNormalization().epsilon)
    np.testing.assert_allclose(frames, normalised, rtol=1e-3, atol=1e-3)
