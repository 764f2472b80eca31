"""Requests to a candidate, and the comparison of answers."""

import io
import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components.audio_example_gen.file_names import CLIPS_FILE, SUMMARY_FILE
from modules.audio.decoding import AudioLimits, BadAudio, decode
from modules.common.addresses import read_bytes
from modules.data.predictions import SplitExamples
from modules.export.contract import EXTRA_ASSETS, WARMUP_FILE, load_contract

TOLERANCE = 1e-4
"""Of a probability: both sides run the same graph on the same machine, but may split a batch differently."""

_NO_RECORDING = b"not a WAV file"
_EXAMPLES = 16
_RECORDINGS = 4


def validation_requests(model_dir: str, examples_uri: str, split_name: str, split: SplitExamples) -> list[Any]:
    """Return requests as clients send them.

    First are the model's warm-up requests to every signature, then examples, then recordings within the limits of the
    model's contract: each alone, and all together with an unusable one.

    Args:
        model_dir: Folder of the SavedModel.
        examples_uri: Folder that the AudioExampleGen wrote.
        split_name: Name of the split.
        split: Its examples.

    Returns:
        PredictRequests that name a signature.
    """
    requests = list(warmup_requests(model_dir))
    chosen = _spread(split.serialized, _EXAMPLES)
    if chosen:
        requests.append(request("examples", examples=chosen))
    limits = load_contract(model_dir).limits
    recordings = list(_recordings(examples_uri, split_name, limits))
    requests += [request("serving_default", audio=[wav]) for wav in recordings]
    requests.append(request("serving_default", audio=[*recordings, _NO_RECORDING]))
    return requests


def request(signature: str, **inputs: object) -> Any:
    """Return a PredictRequest to the signature."""
    made = predict_pb2.PredictRequest()
    made.model_spec.signature_name = signature
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return made


def largest_difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference of two answers; infinite if names, shapes, texts or NaN positions differ."""
    if set(ours) != set(theirs):
        return np.inf
    largest = 0.0
    for name, values in ours.items():
        others = theirs[name]
        if values.shape != others.shape or values.dtype != others.dtype:
            return np.inf
        if values.dtype.kind != "f":
            largest = max(largest, 0.0 if np.array_equal(values, others) else np.inf)
        elif not np.array_equal(np.isfinite(values), np.isfinite(others)):
            return np.inf
        else:
            gaps = np.abs(values - others)[np.isfinite(values)]
            largest = max(largest, float(gaps.max(initial=0.0)))
    return largest


def warmup_requests(model_dir: str) -> Iterator[Any]:
    """Yield the warm-up PredictRequests of the model, one for every signature."""
    path = posixpath.join(model_dir, EXTRA_ASSETS, WARMUP_FILE)
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator() if tf.io.gfile.exists(path) else ():
        yield prediction_log_pb2.PredictionLog.FromString(record).predict_log.request


def _recordings(examples_uri: str, split_name: str, limits: AudioLimits) -> Iterator[bytes]:
    """Yield some of the split's recordings as WAV, without those that exceed the limits or are unreadable."""
    root = json.loads(read_bytes(posixpath.join(examples_uri, SUMMARY_FILE)))["root"]
    clips = [json.loads(line) for line in read_bytes(posixpath.join(examples_uri, CLIPS_FILE)).decode().splitlines()]
    used = [clip for clip in clips if clip["split"] == split_name and clip["examples"]]
    for clip in _spread(used, _RECORDINGS):
        try:
            recording = decode(read_bytes(posixpath.join(root, clip["path"])), limits)
        except (OSError, BadAudio):
            continue
        file = io.BytesIO()
        soundfile.write(file, recording.samples, recording.sample_rate_hz, format="WAV", subtype="PCM_16")
        yield file.getvalue()


def _spread(items: Any, count: int) -> list[Any]:
    """Return ``count`` items, spread evenly from first to last."""
    positions = np.unique(np.linspace(0, len(items) - 1, count).round().astype(int)) if len(items) else ()
    return [items[position] for position in positions]
