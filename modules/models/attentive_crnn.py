"""Network of two branches: a recurrent one over cepstra of the aligned speech, and statistics of the utterance.

The speech is cut out and stretched to a fixed length. The recurrent branch reads cepstra of the whole spectrum (the
vocal tract) and of the low bands (the pitch) through convolutions, a bidirectional GRU and attention, after Mirsamadi
et al., Automatic Speech Emotion Recognition Using Recurrent Neural Networks with Local Attention (2017). The other
branch reads the lowest coefficients of the two-dimensional cosine transform of the spectrogram, and means and
deviations over time, as in acoustic parameter sets (Eyben et al., The Geneva Minimalistic Acoustic Parameter Set,
2016).
"""

from typing import TYPE_CHECKING

from pydantic import Field

from modules.common.settings import Settings
from modules.models.family import FEATURES, VALID_FRAMES, ModelFamily

if TYPE_CHECKING:
    import keras
    import keras_tuner

# The lowest bands of 128 between 0 and 11 kHz, where the mel scale is linear and harmonics are evenly spaced.
_PITCH_SHARE = 40 / 128

# Bands of the smooth spectrum: enough for formants, too few for harmonics.
_SMOOTH_BANDS = 64

_VOCAL_TRACT_COEFFICIENTS = 24


class AttentiveCrnnHyperparameters(Settings):
    """Hyperparameters of the attentive network."""

    frames: int = Field(64, ge=8, description="Frames that the speech of a clip is stretched to.")
    filters: int = Field(96, ge=1, description="Filters of each of the two convolutions over time.")
    kernel: int = Field(5, ge=1, description="Frames under one convolution.")
    recurrent_units: int = Field(48, ge=1, description="Units of the GRU, in each direction.")
    attention_units: int = Field(64, ge=1, description="Units of the network that weighs the frames.")
    waves: int = Field(12, ge=1, description="Slowest waves of the spectrogram that are kept, in time as in frequency.")
    utterance_units: int = Field(128, ge=1, description="Units of the layer over the utterance's statistics.")
    map_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of whole channels that training drops after a convolution."
    )
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of values that training drops before and after the recurrent layer."
    )
    utterance_dropout: float = Field(
        0.4, ge=0, lt=1, description="Share of values that training drops around the layer over the statistics."
    )
    noise: float = Field(
        0.5, ge=0, le=1, description="Share of clips that training fills with steady noise up to a random floor."
    )
    time_jitter: float = Field(
        0.0, ge=0, lt=1, description="Largest move of the speech's ends while training, as a share of its length."
    )
    band_shift: float = Field(
        0.01, ge=0, lt=1, description="Largest move along the mel bands while training, as a share of all bands."
    )
    band_stretch: float = Field(
        0.03, ge=0, description="Largest stretch along the mel bands while training, as a natural logarithm."
    )
    gain: float = Field(
        0.3, ge=0, description="Standard deviation of the gain while training, in units of the normalised features."
    )
    masks: int = Field(2, ge=0, description="Stripes that training blanks out along time, and as many along frequency.")
    mask_share: float = Field(
        0.12, ge=0, lt=1, description="Largest width of a stripe, as a share of the frames or of the bands."
    )


def search_space(
    hp: "keras_tuner.HyperParameters", hyperparameters: AttentiveCrnnHyperparameters
) -> AttentiveCrnnHyperparameters:
    """Return hyperparameters that a search draws, in place of the given ones.

    Args:
        hp: Values that the search proposes.
        hyperparameters: Hyperparameters that are not searched.
    """
    return hyperparameters.replace(
        filters=hp.Choice("filters", [48, 64, 96, 128], default=96),
        recurrent_units=hp.Choice("recurrent_units", [32, 48, 64, 96], default=48),
        utterance_units=hp.Choice("utterance_units", [64, 128, 256], default=128),
        dropout=hp.Float("dropout", 0.1, 0.5, step=0.1, default=0.3),
        utterance_dropout=hp.Float("utterance_dropout", 0.2, 0.6, step=0.1, default=0.4),
        band_shift=hp.Choice("band_shift", [0.0, 0.01, 0.02], default=0.01),
        band_stretch=hp.Choice("band_stretch", [0.0, 0.03, 0.06], default=0.03),
        mask_share=hp.Choice("mask_share", [0.0, 0.06, 0.12, 0.2], default=0.12),
    )


def build(input_shape: tuple[int, ...], classes: int, hyperparameters: AttentiveCrnnHyperparameters) -> "keras.Model":
    """Return the uncompiled model; see :class:`modules.models.family.ModelFamily`.

    Args:
        input_shape: Frames and mel bands of a clip.
        classes: Number of classes.
        hyperparameters: Sizes and augmentation of the network.
    """
    import keras  # here, since commands that only read settings import this module

    features = keras.Input(input_shape, name=FEATURES)
    valid_frames = keras.Input((), dtype="int32", name=VALID_FRAMES)
    speech, share = _augmented_speech(features, valid_frames, hyperparameters)
    pitch, smooth = _pitch_and_smooth_spectrum(speech)
    recurrent = _recurrent_branch(pitch, smooth, hyperparameters)
    statistics = _statistics_branch(pitch, smooth, share, hyperparameters)
    x = keras.layers.Concatenate()([recurrent, statistics])
    # Keep the softmax in float32: float16 is too coarse for the loss.
    probabilities = keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
    return keras.Model({FEATURES: features, VALID_FRAMES: valid_frames}, probabilities, name="attentive_crnn")


def _augmented_speech(
    features: "keras.KerasTensor", valid_frames: "keras.KerasTensor", hyperparameters: AttentiveCrnnHyperparameters
) -> tuple["keras.KerasTensor", "keras.KerasTensor"]:
    """Return normalised speech, ``[batch, frames, bands]``, and its share of the window, ``[batch, 1]``."""
    from modules.models import spectrogram_layers as layers

    if hyperparameters.noise:
        features = layers.NoiseFloor(hyperparameters.noise)(features)
    aligned = layers.AlignedSpeech(hyperparameters.frames, jitter=hyperparameters.time_jitter)
    speech, share = aligned(features, valid_frames)
    # The features were normalised with the silence, which is cut out; the value of masks, 0, should be the mean.
    speech = _normalised(speech)
    if hyperparameters.band_shift or hyperparameters.band_stretch:
        speech = layers.FrequencyWarp(hyperparameters.band_shift, hyperparameters.band_stretch)(speech)
    speech = layers.RandomGain(hyperparameters.gain)(speech)
    speech = layers.SpecMask(hyperparameters.masks, hyperparameters.mask_share)(speech)
    return speech, share


def _pitch_and_smooth_spectrum(speech: "keras.KerasTensor") -> tuple["keras.KerasTensor", "keras.KerasTensor"]:
    """Return the cepstrum of the low bands, and the spectrum in about :data:`_SMOOTH_BANDS` bands."""
    from keras import ops

    from modules.models.spectrogram_layers import cosine_transform

    frames, bands = speech.shape[1:]
    low = max(round(_PITCH_SHARE * bands), 1)
    pitch = cosine_transform(speech[:, :, :low], low)
    merged = max(bands // _SMOOTH_BANDS, 1)
    smooth = bands // merged
    pairs = ops.reshape(speech[:, :, : smooth * merged], (-1, frames, smooth, merged))
    return pitch, ops.mean(pairs, axis=-1)


def _recurrent_branch(
    pitch: "keras.KerasTensor", smooth: "keras.KerasTensor", hyperparameters: AttentiveCrnnHyperparameters
) -> "keras.KerasTensor":
    """Return the recurrent branch, ``[batch, 2 recurrent_units]``."""
    import keras

    from modules.models.spectrogram_layers import AttentionPooling, cosine_transform

    vocal_tract = cosine_transform(smooth, min(_VOCAL_TRACT_COEFFICIENTS, smooth.shape[2]))
    x = keras.layers.BatchNormalization(momentum=0.95)(keras.layers.Concatenate()([pitch, vocal_tract]))
    for _ in range(2):
        x = keras.layers.Conv1D(
            hyperparameters.filters, hyperparameters.kernel, strides=2, padding="same", use_bias=False
        )(x)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.95)(x))
        x = keras.layers.SpatialDropout1D(hyperparameters.map_dropout)(x)
    x = keras.layers.Dropout(hyperparameters.dropout)(x)
    x = keras.layers.Bidirectional(keras.layers.GRU(hyperparameters.recurrent_units, return_sequences=True))(x)
    x = AttentionPooling(hyperparameters.attention_units)(x)
    return keras.layers.Dropout(hyperparameters.dropout)(x)


def _statistics_branch(
    pitch: "keras.KerasTensor",
    smooth: "keras.KerasTensor",
    share: "keras.KerasTensor",
    hyperparameters: AttentiveCrnnHyperparameters,
) -> "keras.KerasTensor":
    """Return the branch of utterance statistics, ``[batch, utterance_units]``."""
    import keras
    from keras import ops

    from modules.models.spectrogram_layers import cosine_transform, time_statistics

    waves = min(hyperparameters.waves, smooth.shape[2], hyperparameters.frames)
    over_frequency = cosine_transform(smooth, waves)
    over_both = cosine_transform(ops.transpose(over_frequency, (0, 2, 1)), waves)
    vocal_tract = cosine_transform(smooth, min(20, smooth.shape[2]))
    parts = [time_statistics(x) for x in (pitch, smooth, vocal_tract)]
    parts += [keras.layers.Flatten()(over_both), ops.mean(ops.abs(pitch), axis=1), share]
    x = keras.layers.BatchNormalization(momentum=0.95)(keras.layers.Concatenate()(parts))
    x = keras.layers.Dropout(hyperparameters.utterance_dropout)(x)
    x = keras.layers.Dense(hyperparameters.utterance_units, use_bias=False)(x)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.95)(x))
    return keras.layers.Dropout(hyperparameters.utterance_dropout)(x)


def _normalised(speech: "keras.KerasTensor") -> "keras.KerasTensor":
    import keras

    return keras.layers.BatchNormalization(momentum=0.95, center=False, scale=False, name="speech_scale")(speech)


ATTENTIVE_CRNN = ModelFamily(
    name="attentive_crnn",
    feature_family="logmel",
    hyperparameters_type=AttentiveCrnnHyperparameters,
    search_space=search_space,
    build=build,
)
