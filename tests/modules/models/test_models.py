import keras
import numpy as np
import pytest

from modules.models import FAMILIES, build
from modules.models.original_cnn import OriginalCnnHyperparameters

# Shape of the output and number of parameters, layer by layer, computed by hand from the published architecture:
# a convolution of kernel k from c to f channels has (k c + 1) f, a batch norm 4 f, a dense layer (i + 1) o.
ORIGINAL_CNN = [
    ("Conv1D", (270, 64), (3 * 1 + 1) * 64),
    ("Conv1D", (135, 64), (3 * 64 + 1) * 64),
    ("Conv1D", (68, 64), (3 * 64 + 1) * 64),
    ("MaxPooling1D", (68, 64), 0),
    ("BatchNormalization", (68, 64), 4 * 64),
    ("Conv1D", (68, 128), (3 * 64 + 1) * 128),
    ("Conv1D", (34, 128), (3 * 128 + 1) * 128),
    ("MaxPooling1D", (34, 128), 0),
    ("BatchNormalization", (34, 128), 4 * 128),
    ("Conv1D", (17, 256), (3 * 128 + 1) * 256),
    ("MaxPooling1D", (17, 256), 0),
    ("BatchNormalization", (17, 256), 4 * 256),
    ("Dropout", (17, 256), 0),
    ("Flatten", (17 * 256,), 0),
    ("Dense", (64,), (17 * 256 + 1) * 64),
    ("Dense", (16,), (64 + 1) * 16),
    ("Dense", (7,), (16 + 1) * 7),
]


@pytest.fixture(scope="module")
def original() -> keras.Model:
    return build("original_cnn", input_shape=(270,), classes=7)


def test_original_cnn_has_the_published_layers(original):
    layers = [
        layer for layer in original.layers if not isinstance(layer, keras.layers.InputLayer | keras.layers.Reshape)
    ]
    assert [(type(layer).__name__, layer.output.shape[1:], layer.count_params()) for layer in layers] == ORIGINAL_CNN
    assert original.count_params() == sum(parameters for _, _, parameters in ORIGINAL_CNN) == 479_047


def test_original_cnn_has_the_published_settings(original):
    of_type = {kind: [x for x in original.layers if type(x).__name__ == kind] for kind, _, _ in ORIGINAL_CNN}
    assert [layer.strides for layer in of_type["Conv1D"]] == [(1,), (2,), (2,), (1,), (2,), (2,)]
    assert [layer.pool_size for layer in of_type["MaxPooling1D"]] == [(2,)] * 3
    assert [layer.strides for layer in of_type["MaxPooling1D"]] == [(1,)] * 3
    assert {layer.padding for layer in of_type["Conv1D"] + of_type["MaxPooling1D"]} == {"same"}
    activations = [layer.activation.__name__ for layer in of_type["Conv1D"] + of_type["Dense"]]
    assert activations == ["relu"] * 8 + ["softmax"]
    assert of_type["Dropout"][0].rate == 0.2


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_keeps_the_interface(name):
    shape = {"utterance": (270,), "logmel": (108, 128), "encoder": (43, 384)}[FAMILIES[name].feature_family]
    model = build(name, input_shape=shape, classes=7)
    rng = np.random.default_rng(0)
    inputs = {
        "features": rng.normal(size=(3, *shape)).astype(np.float32),
        "valid_frames": np.array([108, 50, 1], np.int32),
    }
    probabilities = model.predict(inputs, verbose=0)
    assert probabilities.shape == (3, 7)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert model.count_params() <= 1_000_000


def test_hyperparameters_reach_the_layers():
    values = {"filters": 16, "kernel": 10, "pool": 5, "dropout": 0.5}
    model = build("original_cnn", input_shape=(270,), classes=7, hyperparameters=values)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv1D)]
    assert [layer.filters for layer in convolutions] == [16, 16, 16, 32, 32, 64]
    assert {layer.kernel_size for layer in convolutions} == {(10,)}
    assert {x.pool_size for x in model.layers if isinstance(x, keras.layers.MaxPooling1D)} == {(5,)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"filters": 0}, r"filters is 0;.* 1 "),
        ({"dropout": 1.0}, r"dropout is 1\.0;.* 0, .* 1"),
        ({"depth": 3}, r"depth .*dropout, filters, kernel, pool"),
    ],
)
def test_hyperparameters_that_make_no_model_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        build("original_cnn", input_shape=(270,), classes=7, hyperparameters=values)


def test_unknown_family_names_the_known_ones():
    with pytest.raises(ValueError, match="attentive_crnn, encoder_cnn, encoder_linear, original_cnn"):
        build("cnn", input_shape=(270,), classes=7)


def test_search_space_of_the_original_cnn():
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    first = FAMILIES["original_cnn"].search_space(hp, OriginalCnnHyperparameters())
    assert first == OriginalCnnHyperparameters()
    space = {part.name: part for part in hp.space}
    assert space["filters"].values == [16, 32, 64, 128]
    assert (space["kernel"].min_value, space["kernel"].max_value) == (3, 10)
    assert (space["pool"].min_value, space["pool"].max_value) == (2, 5)
    assert (space["dropout"].min_value, space["dropout"].max_value, space["dropout"].step) == (0.05, 0.5, 0.05)
