"""Clips, requests and candidates of the benchmark."""

import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from modules.audio.spec import AudioSpec
from serving.client.predictions import ModelChoice
from serving.client.recordings import to_wav
from serving.wire import predict_pb2 as wire

CLIPS = 64
SIGNATURES = ("serving_default", "features")
TIMEOUT_SEC = 60.0
MODEL = ModelChoice(name="ser")

Call = Callable[[list[wire.PredictRequest]], None]
"""Call of the model in this process with a batch of requests."""


def read_clips(data: Path) -> list[bytes]:
    """Return 16-bit WAV of clips spread over the speakers in ``data``."""
    files = sorted(file for file in data.rglob("*") if file.suffix.lower() in (".wav", ".flac"))
    if not files:
        raise SystemExit(f"{data} holds no WAV or FLAC files; name a folder of recordings with --data")
    return [to_wav(file) for file in files[:: max(1, len(files) // CLIPS)][:CLIPS]]


def features_of(wavs: list[bytes], spec: AudioSpec) -> list[tuple[np.ndarray, int, float]]:
    """Return features, valid frames and speech of every clip, from the model's own extractor."""
    from modules.audio import frontend

    extracted = [frontend.features_of_wavs([wav], spec) for wav in wavs]
    return [(each.features[0].numpy(), int(each.valid_frames[0]), float(each.speech[0])) for each in extracted]


def requests_of(
    wavs: list[bytes], features: list[tuple[np.ndarray, int, float]]
) -> dict[str, list[wire.PredictRequest]]:
    """Return a gRPC request per clip, for each signature."""
    return {
        "serving_default": [MODEL.request("serving_default", [wav]) for wav in wavs],
        "features": [_features_request(*item) for item in features],
    }


def _features_request(features: np.ndarray, valid_frames: int, speech: float) -> wire.PredictRequest:
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL.name, "features"
    _fill(request.inputs["features"], features[np.newaxis])
    _fill(request.inputs["speech"], np.array([speech], np.float32))
    frames = request.inputs["valid_frames"]
    frames.dtype = wire.DT_INT64
    frames.int64_val.append(valid_frames)
    frames.tensor_shape.dim.add(size=1)
    return request


def _fill(tensor: wire.TensorProto, values: np.ndarray) -> None:
    tensor.dtype, tensor.tensor_content = wire.DT_FLOAT, values.tobytes()
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)


def librosa_over_rest(rest_url: str, spec: AudioSpec) -> Callable[[bytes], None]:
    """Return (b): a function that sends one request over REST, with features of librosa."""
    import httpx
    import librosa

    http = httpx.Client(base_url=rest_url, timeout=TIMEOUT_SEC)

    def send(wav: bytes) -> None:
        waveform, _ = librosa.load(
            io.BytesIO(wav), sr=spec.sample_rate_hz, offset=spec.window_offset_sec, duration=spec.window_sec
        )
        item = {
            "features": _by_librosa(waveform, spec).tolist(),
            "valid_frames": 1 + len(waveform) // spec.hop_samples,
            "speech": 1.0,  # this client does not measure it
        }
        http.post("/v1/models/ser:predict", json={"signature_name": "features", "instances": [item]}).raise_for_status()

    return send


def _by_librosa(waveform: np.ndarray, spec: AudioSpec) -> np.ndarray:
    import librosa

    from benchmarks.extraction import five_calls

    if spec.feature_family == "utterance":
        return five_calls(waveform, spec)
    mel_power = librosa.feature.melspectrogram(
        y=waveform,
        sr=spec.sample_rate_hz,
        n_fft=spec.n_fft,
        hop_length=spec.hop_samples,
        n_mels=spec.mel_bands,
    )
    logmel = librosa.power_to_db(mel_power).T
    return librosa.util.fix_length(logmel, size=spec.window_frames, axis=0)


def in_process(model_dir: Path) -> dict[str, Call]:
    """Return (a): a function for each signature, called with a batch of the contents of its requests."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model_dir))

    def call(signature: str, requests: list[wire.PredictRequest]) -> None:
        inputs = [{name: array_of(tensor) for name, tensor in request.inputs.items()} for request in requests]
        joined = {name: tf.constant(np.concatenate([item[name] for item in inputs])) for name in inputs[0]}
        for tensor in loaded.signatures[signature](**joined).values():
            tensor.numpy()

    return {name: functools.partial(call, name) for name in SIGNATURES}


def array_of(tensor: wire.TensorProto) -> np.ndarray:
    """Return an input tensor of :func:`requests_of` as an array."""
    if tensor.dtype == wire.DT_STRING:
        return np.array(tensor.string_val, dtype=object)
    if tensor.dtype == wire.DT_INT64:
        return np.array(tensor.int64_val)
    return np.frombuffer(tensor.tensor_content, np.float32).reshape([dim.size for dim in tensor.tensor_shape.dim])
