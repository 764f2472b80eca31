"""The frozen encoder: its weights file, and its graph with random weights in place of the published ones."""

import dataclasses
import json
import struct

import librosa
import numpy as np
import pytest
import soundfile
import soxr
import tensorflow as tf

from modules.audio import features
from modules.audio.encoder import catalog, weights, whisper
from modules.audio.encoder.weights import WeightsError
from modules.audio.spec import AudioSpec
from tests import encoder_arrays
from tests.encoder_arrays import BLOCKS, WIDTH
from tests.paths import CORPORA, GOLDEN, needs_corpora

SPEC = AudioSpec(feature_family="encoder", sample_rate_hz=16_000, window_sec=2.0)


def ctranslate2_file(arrays: dict[str, np.ndarray]) -> bytes:
    """Return CTranslate2's container with the arrays, and one of the decoder."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    arrays = {f"encoder/{name}": array for name, array in arrays.items()} | {"decoder/x": np.zeros(3, np.float16)}
    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(arrays))]
    for name, array in arrays.items():
        shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        parts += [text(name), shape, struct.pack("<BI", 4, array.nbytes), array.tobytes()]
    return b"".join([*parts, struct.pack("<I", 0)])


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return encoder_arrays.random_arrays()


@pytest.fixture
def encoder(arrays, tmp_path, monkeypatch) -> catalog.Encoder:
    """The catalogue lists the random arrays as whisper-tiny.en; none are fetched yet."""
    return encoder_arrays.publish(arrays, tmp_path / "encoders", monkeypatch)


@pytest.fixture
def fetched(encoder, arrays, tmp_path) -> catalog.Encoder:
    (tmp_path / "model.bin").write_bytes(ctranslate2_file(arrays))
    weights.fetch(encoder.name, str(tmp_path / "model.bin"))
    return encoder


def test_fetched_arrays_are_those_of_the_file(fetched, arrays):
    loaded = weights.load(fetched.name)
    assert loaded.keys() == arrays.keys()
    assert all((loaded[name] == arrays[name]).all() for name in arrays)


def test_other_weights_are_refused_and_leave_no_file(encoder, arrays, tmp_path):
    other = arrays | {"conv1/bias": arrays["conv1/bias"] + np.float16(1)}
    (tmp_path / "model.bin").write_bytes(ctranslate2_file(other))
    with pytest.raises(weights.UnusableSource, match=encoder.arrays_sha256):
        weights.fetch(encoder.name, str(tmp_path / "model.bin"))
    assert not list(weights.weights_folder().glob("*"))


@pytest.mark.parametrize("name", ["model.bin", "model.safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>" * 10,
        b"\x02\0\0\0\0\0\0\0[]",
        b'\x08\0\0\0\0\0\0\0{"a": 1}',
        b"\xff" * 8 + b"{}",
    ],
)
def test_a_file_without_a_model_is_refused_by_its_name(encoder, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(weights.UnusableSource, match=name):
        weights.fetch(encoder.name, str(tmp_path / name))


def hugging_face(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays under the names of a Hugging Face checkpoint, whose keys have no bias."""
    both = {"layer_norm": "layer_norm", "conv1": "conv1", "conv2": "conv2"}
    published = {"encoder.embed_positions.weight": arrays["position_encodings/encodings"]}
    for block in range(BLOCKS):
        theirs, ours = f"layers.{block}", f"layer_{block}"
        for name, part in zip("qkv", np.split(arrays[f"{ours}/self_attention/linear_0/weight"], 3), strict=True):
            published[f"encoder.{theirs}.self_attn.{name}_proj.weight"] = part
        query, key, value = np.split(arrays[f"{ours}/self_attention/linear_0/bias"], 3)
        assert not key.any()
        published[f"encoder.{theirs}.self_attn.q_proj.bias"] = query
        published[f"encoder.{theirs}.self_attn.v_proj.bias"] = value
        both |= {
            f"{theirs}.self_attn_layer_norm": f"{ours}/self_attention/layer_norm",
            f"{theirs}.self_attn.out_proj": f"{ours}/self_attention/linear_1",
            f"{theirs}.final_layer_norm": f"{ours}/ffn/layer_norm",
            f"{theirs}.fc1": f"{ours}/ffn/linear_0",
            f"{theirs}.fc2": f"{ours}/ffn/linear_1",
        }
    for theirs, ours in both.items():
        names = ("gamma", "beta") if ours.endswith("layer_norm") else ("weight", "bias")
        for suffix, name in zip(("weight", "bias"), names, strict=True):
            published[f"encoder.{theirs}.{suffix}"] = arrays[f"{ours}/{name}"]
    return published


def safetensors_file(arrays: dict[str, np.ndarray]) -> bytes:
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        data = array.astype(np.float32).tobytes()
        offsets = [len(content), len(content) + len(data)]
        header[f"model.{name}"] = {"dtype": "F32", "shape": array.shape, "data_offsets": offsets}
        content += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def test_arrays_of_hugging_face_have_the_same_hash(arrays):
    arrays = dict(arrays)
    for block in range(BLOCKS):
        bias = arrays[f"layer_{block}/self_attention/linear_0/bias"].copy()
        bias[WIDTH : 2 * WIDTH] = 0
        arrays[f"layer_{block}/self_attention/linear_0/bias"] = bias
    read = weights._read_safetensors(safetensors_file(hugging_face(arrays)))
    assert weights.arrays_digest(read) == weights.arrays_digest(arrays)


def test_missing_weights_name_the_command(encoder):
    with pytest.raises(WeightsError, match=encoder.name):
        weights.load(encoder.name)


def test_a_changed_byte_is_noticed_when_loading(fetched):
    file = weights.weights_file(fetched)
    arrays = dict(np.load(file))
    arrays["conv1/bias"][0] += 1
    np.savez(file, **arrays)
    with pytest.raises(WeightsError):
        weights.load(fetched.name)


def test_log_mel_is_that_of_librosa_and_whispers_scale():
    waveform = (0.1 * np.random.default_rng(1).standard_normal(16_000)).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=16_000, n_fft=400, hop_length=160, n_mels=80, pad_mode="reflect"
    )[:, :-1]
    bels = np.log10(np.maximum(power, 1e-10))
    expected = (np.maximum(bels, bels.max() - 8) + 4) / 4
    np.testing.assert_allclose(whisper.log_mel(waveform[None])[0], expected.T, atol=1e-4)


def test_features_have_the_specs_shape_and_end_with_the_sound(fetched):
    waveforms = (0.1 * np.random.default_rng(2).standard_normal((2, SPEC.window_samples))).astype(np.float32)
    valid_samples = np.array([SPEC.window_samples, 8_000], np.int32)
    extracted = features.extract(waveforms, valid_samples, SPEC).numpy()
    frames = features.valid_frames(valid_samples, SPEC).numpy()
    assert extracted.shape == (2, *SPEC.feature_shape) == (2, 25, WIDTH)
    assert frames.tolist() == [25, 7]
    assert not extracted[1, 7:].any()
    assert np.abs(extracted[1, :7]).min(axis=1).max() > 0
    assert len(features.feature_names(SPEC)) == WIDTH


def test_a_clip_has_the_same_features_in_any_batch(fetched):
    waveforms = (0.1 * np.random.default_rng(3).standard_normal((3, SPEC.window_samples))).astype(np.float32)
    full = np.full(3, SPEC.window_samples, np.int32)
    together = features.extract(waveforms, full, SPEC).numpy()
    alone = features.extract(waveforms[1:2], full[:1], SPEC).numpy()
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-4, atol=1e-4)


def test_blocks_are_joined_in_their_order(fetched):
    waveform = tf.constant((0.1 * np.random.default_rng(4).standard_normal((1, 16_000))).astype(np.float32))
    both = whisper.outputs(waveform, fetched.name, (1, 2)).numpy()
    np.testing.assert_allclose(both[..., :WIDTH], whisper.outputs(waveform, fetched.name, (1,)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(both[..., WIDTH:], whisper.outputs(waveform, fetched.name, (2,)), rtol=1e-5, atol=1e-5)


def test_signatures_of_a_model_share_one_copy_of_the_weights(fetched, tmp_path):
    module = tf.Module()
    signature = [tf.TensorSpec([None, 16_000], tf.float32)]
    for name in ("first", "second"):
        function = tf.function(lambda x: {"y": whisper.outputs(x, fetched.name, (BLOCKS,))}, input_signature=signature)
        setattr(module, name, function)
    tf.saved_model.save(module, tmp_path, signatures={"first": module.first, "second": module.second})
    published_bytes = sum(array.nbytes for array in weights.load(fetched.name).values())
    assert (tmp_path / "saved_model.pb").stat().st_size < 1.2 * published_bytes


@needs_corpora
def test_published_weights_give_the_outputs_of_ctranslate2():
    golden = json.loads((GOLDEN / "whisper_tiny_en.json").read_text())
    if not weights.weights_file(catalog.encoder_named("whisper-tiny.en")).is_file():
        pytest.skip("the published weights were not fetched (ser encoder fetch)")
    recorded, rate_hz = soundfile.read(CORPORA / golden["clip"], dtype="float32")
    samples = soxr.resample(recorded, rate_hz, whisper.SAMPLE_RATE_HZ, "VHQ")
    start, length = (round(golden[name] * whisper.SAMPLE_RATE_HZ) for name in ("start_sec", "length_sec"))
    last = whisper.outputs(samples[np.newaxis, start : start + length], "whisper-tiny.en", (BLOCKS,))[0]
    ours = whisper.normalise(last, weights.load("whisper-tiny.en"), "layer_norm").numpy()
    for frame, expected in golden["frames"].items():
        error = np.linalg.norm(ours[int(frame)] - expected) / np.linalg.norm(expected)
        assert error < 1e-3


def test_the_fingerprint_changes_with_the_weights(encoder, monkeypatch):
    before = SPEC.fingerprint
    monkeypatch.setitem(catalog.ENCODERS, encoder.name, dataclasses.replace(encoder, arrays_sha256="0" * 64))
    assert SPEC.fingerprint != before


@pytest.mark.parametrize(
    "values", [{"sample_rate_hz": 22_050}, {"encoder_blocks": (5,)}, {"encoder_blocks": ()}, {"encoder": "other"}]
)
def test_specs_without_an_encoder_that_fits_are_refused(values):
    with pytest.raises(ValueError, match=r"encoder|sample_rate_hz"):
        SPEC.replace(**values)
