"""The SavedModel: from the audio of a client to probabilities, in one graph.

Features, normalisation, network and calibration are one graph, so that a served prediction is the evaluated one.
Every signature has the batch as the first dimension of every input and output: TF Serving's batching requires it.
"""

import enum
import json
import math
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from modules.audio import frontend, wav
from modules.audio.decoding import DEFAULT_LIMITS, AudioLimits
from modules.audio.graph_checks import NO_ERROR
from modules.audio.spec import AudioSpec
from modules.data import examples
from modules.data.adaptation import Adaptation, adapt
from modules.data.labels import EMOTIONS
from modules.data.preprocessing import Constants, features_signature, learned_normalisation
from modules.evaluation.calibration import SMALLEST_PROBABILITY
from modules.export.contract import (
    EXTRA_ASSETS,
    LEAST_WEIGHT,
    MODEL_FILE,
    NO_SPEECH,
    NOT_SURE,
    STATISTICS_FILE,
    WARMUP_FILE,
    Contract,
    load_contract,
)

__all__ = ["SIGNATURES", "TIMELINE_HOP_SEC", "export", "load_contract", "served_module", "warmup_requests"]

SIGNATURES = ("serving_default", "waveform", "features", "examples", "timeline")

TIMELINE_HOP_SEC = 1.0
"""Between two windows of the ``timeline`` signature: every moment is in two or three of them."""


class FeatureCode(enum.StrEnum):
    """Stable codes of the errors of features; those of audio are :class:`modules.audio.decoding.AudioCode`."""

    NOT_FINITE = "FEATURES_NOT_FINITE"
    VALID_FRAMES = "FEATURES_VALID_FRAMES"
    SPEECH = "FEATURES_SPEECH"
    SHAPE = "FEATURES_SHAPE"
    AUDIO_SPEC = "FEATURES_AUDIO_SPEC"


_BLOCK_WINDOWS = 32
_WARMUP_SEC = 1.0
_WARMUP_RATE_HZ = 48_000  # not the spec's, so that the resampler is warm too


def export(
    model: keras.Model,
    transform: tft.TFTransformOutput,
    spec: AudioSpec,
    model_dir: str,
    *,
    temperature: float = 1.0,
    labels: tuple[str, ...] = EMOTIONS,
    limits: AudioLimits = DEFAULT_LIMITS,
    description: Mapping[str, object] | None = None,
    plain: Constants | None = None,
) -> None:
    """Write the SavedModel with its contract and warm-up requests; an atomic rename publishes it at ``model_dir``.

    Args:
        model: Model of a family in :mod:`modules.models`, in float32.
        transform: Normalisation that the model was trained with.
        spec: Window and features that the model was trained on.
        model_dir: Folder to write; local or on any file system that TensorFlow supports.
        temperature: Temperature of the calibration, see :mod:`modules.evaluation.calibration`.
        labels: Names of the model's outputs, in their order; part of the contract.
        limits: Limits of a usable recording; part of the contract.
        description: Description of the model for its card, see :func:`modules.training.trainer.describe_model`.
        plain: Mean and deviation of the normalised features of plain training clips; without them the model cannot be
            adapted (:mod:`modules.export.adapted`).
    """
    partial_dir = f"{model_dir.rstrip('/')}.partial"
    if tf.io.gfile.exists(partial_dir):
        tf.io.gfile.rmtree(partial_dir)
    contract = Contract(spec, labels, limits)
    module = served_module(model, transform, contract, temperature=temperature)
    tf.saved_model.save(module, partial_dir, signatures={name: getattr(module, name) for name in SIGNATURES})
    extra_dir = f"{partial_dir}/{EXTRA_ASSETS}"
    tf.io.gfile.makedirs(extra_dir)
    statistics = {STATISTICS_FILE: plain.to_json()} if plain else {}
    for name, text in (contract.files() | {MODEL_FILE: json.dumps(description or {})} | statistics).items():
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
    contract: Contract,
    *,
    temperature: float = 1.0,
) -> tf.Module:
    """Return a module with a function per signature.

    All but ``timeline`` return:

    * ``probabilities``, float32 ``[batch, emotions]``, and ``labels``, string ``[batch, emotions]``, their names;
    * ``emotion``, string ``[batch]``, the most probable, and ``confidence``, float32 ``[batch]``, its probability;
    * ``speech``, float32 ``[batch]``, the probability of speech: where it is below ``min_speech`` of the contract's
      limits, ``emotion`` is :data:`~modules.export.contract.NO_SPEECH`;
    * ``min_confidence``, float32 ``[batch]``, of the contract's limits: below it ``emotion`` is
      :data:`~modules.export.contract.NOT_SURE`;
    * ``error``, string ``[batch]``: empty, or the code and the reason why the item cannot be used. Such an item has
      probabilities of 0 and an empty ``emotion``; nothing is raised, because TF Serving would fail all requests of the
      batch.

    Signatures that take audio answer for the whole recording: probabilities are means over its windows
    (:func:`modules.audio.windowing.recording_starts`), weighed by the probability that the window holds speech, and
    ``speech`` is the highest of these. Only sound shows whether it is speech, so that ``features`` and ``examples``
    return the one that the extractor measured (:class:`modules.audio.frontend.Analysed`). The signatures take:

    * ``serving_default``: ``audio``, string ``[batch]``, each a whole WAV file of any rate and number of channels;
    * ``waveform``: ``waveform``, string ``[batch]``, each the little-endian float32 samples of one channel, and
      ``sample_rate_hz``, int32 ``[batch]``. Bytes, because TF Serving merges requests of different lengths only then:
      without padding it refuses them, and with it the padding would be analysed;
    * ``features``: ``features``, float32 ``[batch, *feature_shape]``, ``valid_frames``, int64 ``[batch]``, and
      ``speech``, float32 ``[batch]``;
    * ``examples``: ``examples``, string ``[batch]``, serialized ``tf.Example`` as :mod:`modules.data.examples` makes
      them; only the features are needed, and ``speech`` is 1 without one. Bytes that are not a ``tf.Example`` fail the
      whole batch.

    ``timeline`` takes ``audio`` as ``serving_default`` does and analyses all of it in windows
    :data:`TIMELINE_HOP_SEC` apart: ``windows``, int32 ``[batch]``, their number; ``start_sec``, ``end_sec``,
    ``speech`` and ``confidence``, float32 ``[batch, most windows]``; ``probabilities``,
    ``[batch, most windows, emotions]``; ``emotion``; ``labels``; ``error``; ``min_confidence``. Recordings with fewer
    windows are filled up with zeros and empty names; one with an error has none.
    """
    module = tf.Module()
    # TensorFlow's variables, not Keras's: of each of those, Keras would save a second copy that no function reads, and
    # the variables that the functions read would have no value in a loader that restores by the graph, as TF Serving's.
    module.variables_ = [variable.value for variable in model.variables]
    # No signatures: an adaptation takes means of normalised features, and sets these variables.
    module.normalise = learned_normalisation(transform, contract.audio_spec)
    adaptation = Adaptation(
        *(tf.Variable(value, trainable=False) for value in Adaptation.identity(contract.audio_spec))
    )
    module.adaptation_scale, module.adaptation_offset = adaptation
    classify = _classifier(model, module.normalise, adaptation, contract.audio_spec, temperature)
    module.classify = classify  # no signature: the export to edge devices puts another front end before it
    module.serving_default = _on_audio(classify, contract)
    module.waveform = _on_waveform(classify, contract)
    module.features = _on_features(classify, contract)
    module.examples = _on_examples(classify, contract)
    module.timeline = _on_timeline(classify, contract)
    return module


Classify = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _classifier(
    model: keras.Model,
    normalise: tf.types.experimental.GenericFunction,
    adaptation: Adaptation,
    spec: AudioSpec,
    temperature: float,
) -> Classify:
    """Map raw features ``[batch, *feature_shape]`` and valid frames ``[batch]`` to probabilities."""

    @tf.function(input_signature=features_signature(spec))
    def classify(raw: tf.Tensor, valid_frames: tf.Tensor) -> tf.Tensor:
        inputs = {
            examples.FEATURES: adapt(normalise(raw, valid_frames), valid_frames, adaptation, spec),
            examples.VALID_FRAMES: tf.cast(valid_frames, tf.int32),
        }
        probabilities = model(inputs, training=False)
        if temperature == 1:
            return probabilities
        return tf.nn.softmax(tf.math.log(tf.maximum(probabilities, SMALLEST_PROBABILITY)) / temperature)

    return classify


def _on_audio(classify: Classify, contract: Contract) -> tf.types.experimental.GenericFunction:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "audio")])
    def serving_default(audio: tf.Tensor) -> dict[str, tf.Tensor]:
        windows = frontend.windows_of_wavs(audio, contract.audio_spec, contract.limits)
        return _answer(classify, windows, contract)

    return serving_default


def _on_waveform(classify: Classify, contract: Contract) -> tf.types.experimental.GenericFunction:
    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "waveform"),
            tf.TensorSpec([None], tf.int32, "sample_rate_hz"),
        ]
    )
    def waveform_signature(waveform: tf.Tensor, sample_rate_hz: tf.Tensor) -> dict[str, tf.Tensor]:
        windows = frontend.windows_of_floats(waveform, sample_rate_hz, contract.audio_spec, contract.limits)
        return _answer(classify, windows, contract)

    return waveform_signature


def _answer(classify: Classify, windows: frontend.Windows, contract: Contract) -> dict[str, tf.Tensor]:
    """Return the answers to whole recordings: each window counts as much as it holds speech."""
    probabilities, speech = _classify_windows(classify, windows, contract)
    batch = tf.size(windows.error)
    weights = tf.maximum(speech, LEAST_WEIGHT)[:, tf.newaxis]
    sums = tf.math.unsorted_segment_sum(weights * probabilities, windows.recording, batch)
    whole = sums / tf.math.unsorted_segment_sum(weights, windows.recording, batch)
    most_speech = tf.math.unsorted_segment_max(speech, windows.recording, batch)
    return _named(whole, windows.error, contract, most_speech)


def _classify_windows(classify: Classify, windows: frontend.Windows, contract: Contract) -> tuple[tf.Tensor, tf.Tensor]:
    """Return probabilities and speech of each window, in blocks: all windows of a long recording need much memory."""

    def of_block(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        block = slice(start, start + _BLOCK_WINDOWS)
        extracted, valid_frames, speech = frontend.analyse(
            windows.samples[block], windows.valid_samples[block], contract.audio_spec
        )
        return classify(extracted, valid_frames), speech

    probabilities, speech = tf.map_fn(
        of_block,
        tf.range(0, tf.size(windows.valid_samples), _BLOCK_WINDOWS),
        fn_output_signature=(
            tf.RaggedTensorSpec([None, len(contract.labels)], tf.float32, ragged_rank=0),
            tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
        ),
        parallel_iterations=1,
    )
    return tf.reshape(probabilities.values, [-1, len(contract.labels)]), speech.values


def _on_features(classify: Classify, contract: Contract) -> tf.types.experimental.GenericFunction:
    spec = contract.audio_spec

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *spec.feature_shape], tf.float32, "features"),
            tf.TensorSpec([None], tf.int64, "valid_frames"),
            tf.TensorSpec([None], tf.float32, "speech"),
        ]
    )
    def features_signature(features: tf.Tensor, valid_frames: tf.Tensor, speech: tf.Tensor) -> dict[str, tf.Tensor]:
        error = _feature_errors(features, valid_frames, speech, spec)
        return _named(classify(features, valid_frames), error, contract, speech)

    return features_signature


def _on_examples(classify: Classify, contract: Contract) -> tf.types.experimental.GenericFunction:
    spec = contract.audio_spec
    # None of these makes the parser fail where an example lacks them. An example without a spec was made by hand.
    feature_spec = {
        examples.FEATURES: tf.io.RaggedFeature(tf.float32),
        examples.VALID_FRAMES: tf.io.FixedLenFeature([], tf.int64, default_value=0),
        examples.SPEECH: tf.io.FixedLenFeature([], tf.float32, default_value=1.0),
        examples.AUDIO_SPEC: tf.io.FixedLenFeature([], tf.string, default_value=""),
    }
    values = math.prod(spec.feature_shape)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def examples_signature(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(serialized, feature_spec)
        flat, specs = parsed[examples.FEATURES], parsed[examples.AUDIO_SPEC]
        features = tf.reshape(flat.to_tensor(shape=[None, values]), [-1, *spec.feature_shape])
        valid_frames = parsed[examples.VALID_FRAMES]
        error = _first_text(
            (
                (specs == "") | (specs == spec.fingerprint),
                f"{FeatureCode.AUDIO_SPEC}: made with another audio spec than this model, {spec.fingerprint}; make the "
                "example again with the model's spec",
            ),
            (flat.row_lengths() == values, f"{FeatureCode.SHAPE}: an example needs {values} features"),
        )
        speech = parsed[examples.SPEECH]
        error = tf.where(error == NO_ERROR, _feature_errors(features, valid_frames, speech, spec), error)
        return _named(classify(features, valid_frames), error, contract, speech)

    return examples_signature


def _feature_errors(features: tf.Tensor, valid_frames: tf.Tensor, speech: tf.Tensor, spec: AudioSpec) -> tf.Tensor:
    """Return errors, string ``[batch]``. A network would turn NaN into a confident answer: ReLU makes 0 of it."""
    finite = tf.reduce_all(tf.reshape(tf.math.is_finite(features), [tf.shape(features)[0], -1]), axis=1)
    return _first_text(
        (finite, f"{FeatureCode.NOT_FINITE}: features that are NaN or infinite"),
        (
            (valid_frames >= 1) & (valid_frames <= spec.window_frames),
            f"{FeatureCode.VALID_FRAMES}: valid_frames must be within 1 and {spec.window_frames}",
        ),
        ((speech >= 0) & (speech <= 1), f"{FeatureCode.SPEECH}: speech is a probability; it must be within 0 and 1"),
    )


def _first_text(*checks: tuple[tf.Tensor, str]) -> tf.Tensor:
    """Return, by item, the text of the first check, bool ``[batch]``, that fails; empty where all pass."""
    error = tf.fill(tf.shape(checks[0][0]), NO_ERROR)
    for holds, text in reversed(checks):
        error = tf.where(holds, error, text)
    return error


def _on_timeline(classify: Classify, contract: Contract) -> tf.types.experimental.GenericFunction:
    columns = {
        "start_sec": tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
        "end_sec": tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
        "speech": tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
        "probabilities": tf.RaggedTensorSpec([None, len(contract.labels)], tf.float32, ragged_rank=0),
        "error": tf.TensorSpec([], tf.string),
    }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "audio")])
    def timeline(audio: tf.Tensor) -> dict[str, tf.Tensor]:
        ragged = tf.map_fn(lambda item: _timeline_of(item, classify, contract), audio, fn_output_signature=columns)
        error = ragged.pop("error")
        windows = tf.cast(ragged["start_sec"].row_lengths(), tf.int32)
        filled = {name: values.to_tensor() for name, values in ragged.items()}
        emotion, confidence = _answers(filled["probabilities"], contract, filled["speech"])
        return {
            **filled,
            "windows": windows,
            "emotion": tf.where(tf.sequence_mask(windows), emotion, ""),
            "confidence": confidence,
            "min_confidence": _least_confidence_for(tf.size(audio), contract),
            "labels": _labels_for(tf.size(audio), contract.labels),
            "error": error,
        }

    return timeline


def _timeline_of(encoded: tf.Tensor, classify: Classify, contract: Contract) -> dict[str, tf.Tensor]:
    """Return the timeline of one recording, window by window, since a long one would not fit into memory."""
    waveform, rate_hz, error = wav.decode_wav(encoded, limits=contract.limits)

    def classify_windows() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        features, valid_frames, speech, start_sec = frontend.features_of_timeline(
            waveform, rate_hz, contract.audio_spec, TIMELINE_HOP_SEC
        )
        probabilities = tf.map_fn(
            lambda window: classify(window[0][tf.newaxis], window[1][tf.newaxis])[0],
            (features, valid_frames),
            fn_output_signature=tf.TensorSpec([len(contract.labels)], tf.float32),
        )
        duration_sec = tf.cast(tf.size(waveform) / rate_hz, tf.float32)
        return start_sec, tf.minimum(start_sec + contract.audio_spec.window_sec, duration_sec), speech, probabilities

    def no_windows() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        return tf.zeros([0]), tf.zeros([0]), tf.zeros([0]), tf.zeros([0, len(contract.labels)])

    columns = tf.cond(error == NO_ERROR, classify_windows, no_windows)
    return {**dict(zip(("start_sec", "end_sec", "speech", "probabilities"), columns, strict=True)), "error": error}


def _named(probabilities: tf.Tensor, error: tf.Tensor, contract: Contract, speech: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the outputs of a signature; numbers of items with an error are 0, as JSON has no NaN."""
    usable = error == NO_ERROR
    emotion, confidence = _answers(probabilities, contract, speech)
    return {
        "probabilities": tf.where(usable[:, tf.newaxis], probabilities, 0.0),
        "emotion": tf.where(usable, emotion, ""),
        "confidence": tf.where(usable, confidence, 0.0),
        "speech": tf.where(usable, speech, 0.0),
        "min_confidence": _least_confidence_for(tf.size(error), contract),
        "labels": _labels_for(tf.shape(probabilities)[0], contract.labels),
        "error": error,
    }


def _answers(probabilities: tf.Tensor, contract: Contract, speech: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return emotions, string ``[...]``, and confidences, float32 ``[...]``, of probabilities ``[..., emotions]``."""
    emotion = tf.gather(tf.constant(contract.labels), tf.argmax(probabilities, axis=-1))
    confidence = tf.reduce_max(probabilities, axis=-1)
    emotion = tf.where(confidence < contract.limits.min_confidence, NOT_SURE, emotion)
    return tf.where(speech < contract.limits.min_speech, NO_SPEECH, emotion), confidence


def _least_confidence_for(batch: tf.Tensor, contract: Contract) -> tf.Tensor:
    """Return the threshold once per item, for answers to several windows or requests together."""
    return tf.fill([batch], contract.limits.min_confidence)


def _labels_for(batch: tf.Tensor, labels: tuple[str, ...]) -> tf.Tensor:
    """Return the names once per item: TF Serving splits every output of a merged batch apart along the batch."""
    return tf.tile(tf.constant([labels]), [batch, 1])


def warmup_requests(spec: AudioSpec) -> list[predict_pb2.PredictRequest]:
    """Return one request per signature, quiet noise of a second, so that no client pays for the first run."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=round(_WARMUP_SEC * _WARMUP_RATE_HZ)).astype(np.float32)
    encoded = tf.audio.encode_wav(noise[:, np.newaxis], _WARMUP_RATE_HZ).numpy()
    raw = np.zeros(spec.feature_shape, np.float32)
    example = tf.train.Example()
    example.features.feature[examples.FEATURES].float_list.value.extend(raw.ravel())
    example.features.feature[examples.VALID_FRAMES].int64_list.value.append(spec.window_frames)
    inputs: dict[str, dict[str, object]] = {
        "serving_default": {"audio": [encoded]},
        "waveform": {
            "waveform": [noise.astype("<f4").tobytes()],
            "sample_rate_hz": np.array([_WARMUP_RATE_HZ], np.int32),
        },
        "features": {
            "features": raw[np.newaxis],
            "valid_frames": np.array([spec.window_frames], np.int64),
            "speech": np.ones(1, np.float32),
        },
        "examples": {"examples": [example.SerializeToString()]},
        "timeline": {"audio": [encoded]},
    }
    return [_request(name, inputs[name]) for name in SIGNATURES]


def _request(signature: str, inputs: dict[str, object]) -> predict_pb2.PredictRequest:
    """Return a request as a client sends it; TF Serving ignores the model's name in a warm-up."""
    return predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name="ser", signature_name=signature),
        inputs={name: tf.make_tensor_proto(value) for name, value in inputs.items()},
    )
