"""The SavedModel: from what a client sends to what it wants to know, in one file.

Features, normalisation, network and calibration are one graph, so that a served prediction is the evaluated one.
Every signature has the batch as the first dimension of every input and output: TF Serving's batching wants it so.
"""

import json
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from modules.audio import frontend, wav
from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits
from modules.audio.spec import AudioSpec
from modules.data import examples
from modules.data.labels import EMOTIONS
from modules.evaluation.calibration import SMALLEST_PROBABILITY
from modules.export.contract import AUDIO_SPEC_FILE, EXTRA_ASSETS, LABELS_FILE, MODEL_FILE, WARMUP_FILE, load_contract

__all__ = ["SIGNATURES", "TIMELINE_HOP_SEC", "export", "load_contract", "served_module", "warmup_requests"]

SIGNATURES = ("serving_default", "waveform", "features", "examples", "timeline")

TIMELINE_HOP_SEC = 1.0
"""Between two windows of the ``timeline`` signature: every moment is heard in two or three of them."""

_WARMUP_SEC = 1.0
_WARMUP_RATE_HZ = 48_000  # not the spec's, so that the resampler is warm too


def export(
    model: keras.Model,
    transform: tft.TFTransformOutput,
    spec: AudioSpec,
    model_dir: str,
    *,
    temperature: float = 1.0,
    limits: AudioLimits = DEFAULT_LIMITS,
    description: Mapping[str, object] | None = None,
) -> None:
    """Writes the SavedModel with its contract and warm-up requests; whatever is seen at ``model_dir`` is whole.

    Args:
        model: Of a family in :mod:`modules.models`, in float32.
        transform: The normalisation it was trained with.
        temperature: Of the calibration, see :mod:`modules.evaluation.calibration`.
        limits: What the model accepts as sound.
        description: Of the model, for its card: see :func:`modules.training.trainer.describe_model`.
    """
    partial_dir = f"{model_dir.rstrip('/')}.partial"
    if tf.io.gfile.exists(partial_dir):
        tf.io.gfile.rmtree(partial_dir)
    module = served_module(model, transform, spec, temperature=temperature, limits=limits)
    tf.saved_model.save(module, partial_dir, signatures={name: getattr(module, name) for name in SIGNATURES})
    extra_dir = f"{partial_dir}/{EXTRA_ASSETS}"
    tf.io.gfile.makedirs(extra_dir)
    contract = {AUDIO_SPEC_FILE: spec.to_json(), LABELS_FILE: json.dumps(EMOTIONS)}
    for name, text in (contract | {MODEL_FILE: json.dumps(description or {})}).items():
        with tf.io.gfile.GFile(f"{extra_dir}/{name}", "w") as file:
            file.write(text)
    with tf.io.TFRecordWriter(f"{extra_dir}/{WARMUP_FILE}") as writer:
        for request in warmup_requests(spec):
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
    if tf.io.gfile.exists(model_dir):
        tf.io.gfile.rmtree(model_dir)
    tf.io.gfile.rename(partial_dir, model_dir)


def served_module(
    model: keras.Model,
    transform: tft.TFTransformOutput,
    spec: AudioSpec,
    *,
    temperature: float = 1.0,
    limits: AudioLimits = DEFAULT_LIMITS,
) -> tf.Module:
    """A module with a function per signature.

    All but ``timeline`` return ``probabilities``, float32 ``[batch, emotions]``; ``emotion``, string ``[batch]``,
    the likeliest; ``labels``, string ``[batch, emotions]``, the names in the order of the probabilities. They take:

    * ``serving_default``: ``audio``, string ``[batch]``, each a whole WAV file of any rate and number of channels;
    * ``waveform``: ``waveform``, float32 ``[batch, samples]``, and ``sample_rate_hz``, int32 ``[batch]``;
    * ``features``: ``features``, float32 ``[batch, *feature_shape]``, and ``valid_frames``, int64 ``[batch]``;
    * ``examples``: ``examples``, string ``[batch]``, serialized ``tf.Example`` as :mod:`modules.data.examples` makes
      them; only the features are needed.

    ``timeline`` takes ``audio`` as ``serving_default`` does and looks at all of it through windows
    :data:`TIMELINE_HOP_SEC` apart: ``windows``, int32 ``[batch]``, says how many; ``start_sec`` and ``end_sec``,
    float32 ``[batch, most windows]``; ``probabilities``, ``[batch, most windows, emotions]``; ``emotion``; ``labels``.
    Recordings with fewer windows are filled up with zeros and empty names.

    What cannot be used raises INVALID_ARGUMENT with the item and the reason.
    """
    module = tf.Module()
    # TensorFlow's variables, not Keras's: of each of those, Keras would save a second copy that no function reads, and
    # the variables that the functions read would have no value in a loader that restores by the graph, as TF Serving's.
    module.variables_ = [variable.value for variable in model.variables]
    classify = _classifier(model, transform, spec, temperature)
    module.serving_default = _on_audio(classify, spec, limits)
    module.waveform = _on_waveform(classify, spec, limits)
    module.features = _on_features(classify, spec)
    module.examples = _on_examples(classify, spec)
    module.timeline = _on_timeline(classify, spec, limits)
    return module


Classify = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _classifier(model: keras.Model, transform: tft.TFTransformOutput, spec: AudioSpec, temperature: float) -> Classify:
    """Raw features ``[batch, *feature_shape]`` and valid frames ``[batch]`` to probabilities."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *spec.feature_shape], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def classify(raw: tf.Tensor, valid_frames: tf.Tensor) -> tf.Tensor:
        normalised = transform.transform_raw_features({examples.FEATURES: raw, examples.VALID_FRAMES: valid_frames})
        inputs = {
            examples.FEATURES: normalised[examples.FEATURES],
            examples.VALID_FRAMES: tf.cast(valid_frames, tf.int32),
        }
        probabilities = model(inputs, training=False)
        if temperature == 1:
            return probabilities
        return tf.nn.softmax(tf.math.log(tf.maximum(probabilities, SMALLEST_PROBABILITY)) / temperature)

    return classify


def _on_audio(classify: Classify, spec: AudioSpec, limits: AudioLimits) -> tf.types.experimental.GenericFunction:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "audio")])
    def serving_default(audio: tf.Tensor) -> dict[str, tf.Tensor]:
        return _named(classify(*frontend.features_of_wavs(audio, spec, limits)))

    return serving_default


def _on_waveform(classify: Classify, spec: AudioSpec, limits: AudioLimits) -> tf.types.experimental.GenericFunction:
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, "waveform"),
            tf.TensorSpec([None], tf.int32, "sample_rate_hz"),
        ]
    )
    def waveform_signature(waveform: tf.Tensor, sample_rate_hz: tf.Tensor) -> dict[str, tf.Tensor]:
        with _require_usable_sound(waveform, sample_rate_hz, limits):
            rows = (tf.identity(waveform), tf.identity(sample_rate_hz))
        extracted = tf.map_fn(
            lambda row: frontend.features_of_waveform(row[0], row[1], spec),
            rows,
            fn_output_signature=(
                tf.TensorSpec(spec.feature_shape, tf.float32),
                tf.TensorSpec([], tf.int64),
            ),
        )
        return _named(classify(*extracted))

    return waveform_signature


def _require_usable_sound(
    waveform: tf.Tensor, sample_rate_hz: tf.Tensor, limits: AudioLimits
) -> "tf.control_dependencies":
    """What :func:`modules.audio.wav.decode_wav` wants of a file's samples, wanted of samples that come alone."""
    peaks = tf.reduce_max(tf.abs(waveform), axis=1)
    duration_sec = tf.cast(tf.shape(waveform)[1], tf.float32) / tf.cast(sample_rate_hz, tf.float32)
    return tf.control_dependencies(
        [
            _require_items(
                _within(sample_rate_hz, limits.min_sample_rate_hz, limits.max_sample_rate_hz),
                f"sample_rate_hz must be within {limits.min_sample_rate_hz} and {limits.max_sample_rate_hz}",
            ),
            _require_items(
                _within(duration_sec, limits.min_duration_sec, limits.max_duration_sec),
                f"the waveform must last {limits.min_duration_sec} s to {limits.max_duration_sec} s",
            ),
            _require_items(
                tf.reduce_all(tf.math.is_finite(waveform), axis=1),
                "the waveform has samples that are no finite numbers",
            ),
            _require_items(
                (peaks > limits.silence_peak) & (peaks <= limits.max_peak),
                f"the waveform's peak must be above {limits.silence_peak:g} and at most {limits.max_peak:g}; 1 is "
                "full scale",
            ),
        ]
    )


def _on_features(classify: Classify, spec: AudioSpec) -> tf.types.experimental.GenericFunction:
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *spec.feature_shape], tf.float32, "features"),
            tf.TensorSpec([None], tf.int64, "valid_frames"),
        ]
    )
    def features_signature(features: tf.Tensor, valid_frames: tf.Tensor) -> dict[str, tf.Tensor]:
        with _require_usable_features(features, valid_frames, spec):
            return _named(classify(tf.identity(features), valid_frames))

    return features_signature


def _on_examples(classify: Classify, spec: AudioSpec) -> tf.types.experimental.GenericFunction:
    # Who made the features by hand says nothing of a spec; who says one has to say ours.
    wanted = examples.model_input_spec(spec) | {
        examples.AUDIO_SPEC: tf.io.FixedLenFeature([], tf.string, default_value="")
    }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def examples_signature(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(serialized, wanted)
        features, valid_frames = parsed[examples.FEATURES], parsed[examples.VALID_FRAMES]
        stated = parsed[examples.AUDIO_SPEC]
        same_spec = _require_items(
            (stated == "") | (stated == spec.fingerprint),
            f"the example was made with another audio spec than {spec.fingerprint}, which this model was made with",
        )
        with tf.control_dependencies([same_spec]), _require_usable_features(features, valid_frames, spec):
            return _named(classify(tf.identity(features), valid_frames))

    return examples_signature


def _require_usable_features(
    features: tf.Tensor, valid_frames: tf.Tensor, spec: AudioSpec
) -> "tf.control_dependencies":
    """A network would turn NaN into a confident answer: ReLU makes 0 of it."""
    finite = tf.reduce_all(tf.reshape(tf.math.is_finite(features), [tf.shape(features)[0], -1]), axis=1)
    return tf.control_dependencies(
        [
            _require_items(finite, "features that are no finite numbers"),
            _require_items(
                _within(valid_frames, 1, spec.window_frames), f"valid_frames must be within 1 and {spec.window_frames}"
            ),
        ]
    )


def _within(values: tf.Tensor, least: float, most: float) -> tf.Tensor:
    return (values >= tf.cast(least, values.dtype)) & (values <= tf.cast(most, values.dtype))


def _require_items(holds: tf.Tensor, reason: str) -> tf.Tensor:
    """Fails with INVALID_ARGUMENT and the first item of the batch that ``holds``, bool ``[batch]``, is not true of."""

    def fail() -> tf.Tensor:
        item = tf.strings.as_string(tf.argmin(tf.cast(holds, tf.int32)))
        with tf.control_dependencies([tf.debugging.Assert(False, [tf.strings.join(["item ", item, f": {reason}"])])]):
            return tf.constant(False)

    return tf.cond(tf.reduce_all(holds), lambda: tf.constant(True), fail)


def _on_timeline(classify: Classify, spec: AudioSpec, limits: AudioLimits) -> tf.types.experimental.GenericFunction:
    columns = {
        "start_sec": tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
        "end_sec": tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
        "probabilities": tf.RaggedTensorSpec([None, len(EMOTIONS)], tf.float32, ragged_rank=0),
    }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "audio")])
    def timeline(audio: tf.Tensor) -> dict[str, tf.Tensor]:
        ragged = tf.map_fn(
            lambda item: _timeline_of(item[0], item[1], classify, spec, limits),
            (audio, tf.range(tf.size(audio))),
            fn_output_signature=columns,
        )
        windows = tf.cast(ragged["start_sec"].row_lengths(), tf.int32)
        filled = {name: values.to_tensor() for name, values in ragged.items()}
        there = tf.sequence_mask(windows)
        emotion = tf.where(there, _likeliest(filled["probabilities"]), "")
        labels = _labels_for(tf.size(audio))
        return {**filled, "windows": windows, "emotion": emotion, "labels": labels}

    return timeline


def _timeline_of(
    encoded: tf.Tensor, index: tf.Tensor, classify: Classify, spec: AudioSpec, limits: AudioLimits
) -> dict[str, tf.Tensor]:
    """One recording, window by window: what a network computes of a long one would not fit into memory at once."""
    waveform, rate_hz = wav.decode_wav(encoded, index=index, limits=limits)
    extracted, valid_frames, start_sec = frontend.features_of_timeline(waveform, rate_hz, spec, TIMELINE_HOP_SEC)
    probabilities = tf.map_fn(
        lambda window: classify(window[0][tf.newaxis], window[1][tf.newaxis])[0],
        (extracted, valid_frames),
        fn_output_signature=tf.TensorSpec([len(EMOTIONS)], tf.float32),
    )
    duration_sec = tf.cast(tf.size(waveform) / rate_hz, tf.float32)
    end_sec = tf.minimum(start_sec + spec.window_sec, duration_sec)
    return {"start_sec": start_sec, "end_sec": end_sec, "probabilities": probabilities}


def _named(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "probabilities": probabilities,
        "emotion": _likeliest(probabilities),
        "labels": _labels_for(tf.shape(probabilities)[0]),
    }


def _likeliest(probabilities: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.constant(EMOTIONS), tf.argmax(probabilities, axis=-1))


def _labels_for(batch: tf.Tensor) -> tf.Tensor:
    """The names once per item: TF Serving cuts every output of a merged batch apart along the batch."""
    return tf.tile(tf.constant([EMOTIONS]), [batch, 1])


def warmup_requests(spec: AudioSpec) -> list[predict_pb2.PredictRequest]:
    """One request per signature, of a second of quiet noise, so that no client pays for the first run of the graph."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=round(_WARMUP_SEC * _WARMUP_RATE_HZ)).astype(np.float32)
    encoded = tf.audio.encode_wav(noise[:, np.newaxis], _WARMUP_RATE_HZ).numpy()
    raw = np.zeros(spec.feature_shape, np.float32)
    example = tf.train.Example()
    example.features.feature[examples.FEATURES].float_list.value.extend(raw.ravel())
    example.features.feature[examples.VALID_FRAMES].int64_list.value.append(spec.window_frames)
    inputs: dict[str, dict[str, object]] = {
        "serving_default": {"audio": [encoded]},
        "waveform": {"waveform": noise[np.newaxis], "sample_rate_hz": np.array([_WARMUP_RATE_HZ], np.int32)},
        "features": {"features": raw[np.newaxis], "valid_frames": np.array([spec.window_frames], np.int64)},
        "examples": {"examples": [example.SerializeToString()]},
        "timeline": {"audio": [encoded]},
    }
    return [_request(name, inputs[name]) for name in SIGNATURES]


def _request(signature: str, inputs: dict[str, object]) -> predict_pb2.PredictRequest:
    """A request as a client would send it; TF Serving takes no notice of the model's name in a warm-up."""
    return predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name="ser", signature_name=signature),
        inputs={name: tf.make_tensor_proto(value) for name, value in inputs.items()},
    )
