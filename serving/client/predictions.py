"""Requests from WAV bytes, and predictions from responses."""

import dataclasses
import random
from collections.abc import Sequence

import numpy as np

from serving.client.errors import AudioError, UnexpectedAnswer
from serving.wire import predict_pb2 as wire

AUDIO_INPUT = "audio"

_DTYPES = {wire.DT_FLOAT: np.float32, wire.DT_INT32: np.int32, wire.DT_INT64: np.int64}
_FIELDS = {wire.DT_FLOAT: "float_val", wire.DT_INT32: "int_val", wire.DT_INT64: "int64_val"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """Emotion in one recording.

    Attributes:
        emotion: The most probable emotion, ``not_sure``, or ``no_speech``.
        probabilities: Probability of each emotion of the model; the sum is 1.
        confidence: Probability of the most probable emotion.
        min_confidence: Confidence below which the model answers ``not_sure``; 0 of a model that always gives an
            emotion.
        speech: Probability that the recording holds speech; ``None`` of a model that does not return it.
        model_version: The version that answered; ``None`` where the response does not name it (TF Serving's REST).
    """

    emotion: str
    probabilities: dict[str, float]
    confidence: float
    min_confidence: float
    speech: float | None
    model_version: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment(Prediction):
    """Emotion between two times of a recording, in seconds: one window of the model, or several that agree."""

    start_sec: float
    end_sec: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Model that a client uses; with the name alone, its newest version.

    Attributes:
        canary_percent: Share of the requests that go to the label ``canary``; the others go to ``stable``.
    """

    name: str
    version: int | None = None
    label: str | None = None
    canary_percent: float | None = None

    def __post_init__(self) -> None:
        choices = {"version": self.version, "label": self.label, "canary_percent": self.canary_percent}
        given = {name: choice for name, choice in choices.items() if choice is not None}
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} were given, {list(given.values())}; give at most one")
        if self.canary_percent is not None and not 0 <= self.canary_percent <= 100:
            raise ValueError(f"canary_percent is {self.canary_percent}; it must be between 0 and 100")

    def request(self, signature: str, wavs: Sequence[bytes]) -> wire.PredictRequest:
        """Return the request to ``signature`` for a batch of encoded WAV files.

        Args:
            signature: Name of the signature.
            wavs: Encoded WAV files.
        """
        audio = wire.TensorProto(dtype=wire.DT_STRING, string_val=wavs)
        audio.tensor_shape.dim.add(size=len(wavs))
        request = wire.PredictRequest(inputs={AUDIO_INPUT: audio})
        request.model_spec.name = self.name
        request.model_spec.signature_name = signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        if (label := self._label()) is not None:
            request.model_spec.version_label = label
        return request

    def _label(self) -> str | None:
        if self.canary_percent is None:
            return self.label
        return "canary" if 100 * random.random() < self.canary_percent else "stable"


def prediction_or_raise(answer: Prediction | AudioError) -> Prediction:
    """Return the prediction, or raise the error.

    Args:
        answer: The prediction or the error.
    """
    if isinstance(answer, AudioError):
        raise answer
    return answer


def predictions(response: wire.PredictResponse, names: Sequence[str]) -> list[Prediction | AudioError]:
    """Return the prediction or error of each item of the batch; errors contain the recording's name.

    Args:
        response: Response of a signature that answers for whole recordings.
        names: Name of each recording in messages.
    """
    columns = [_output(response, name) for name in ("labels", "probabilities", "emotion")]
    rows = zip(*columns, _speech(response, columns[-1]), strict=True)
    return [error or _prediction(response, *row) for error, row in zip(errors(response, names), rows, strict=True)]


def _prediction(
    response: wire.PredictResponse, labels: np.ndarray, probabilities: np.ndarray, emotion: bytes, speech: float | None
) -> Prediction:
    """Return one answer of a response, from its labels and probabilities, ``[emotions]`` each."""
    return Prediction(
        emotion=emotion.decode(),
        probabilities={label.decode(): float(value) for label, value in zip(labels, probabilities, strict=True)},
        confidence=float(probabilities.max()),
        min_confidence=_min_confidence(response),
        speech=speech,
        model_version=response.model_spec.version.value if response.model_spec.HasField("version") else None,
    )


def _speech(response: wire.PredictResponse, emotions: np.ndarray) -> list[float | None]:
    """Return the probability of speech for each of the emotions of a recording or of recordings."""
    if "speech" not in response.outputs:
        return [None] * len(emotions)
    return [float(value) for value in tensor_values(response.outputs["speech"]).ravel()[: len(emotions)]]


def _min_confidence(response: wire.PredictResponse) -> float:
    """Return the threshold that all items share; 0 of a model that was exported before there was one."""
    found = response.outputs.get("min_confidence")
    return float(tensor_values(found)[0]) if found is not None else 0.0


def errors(response: wire.PredictResponse, names: Sequence[str]) -> list[AudioError | None]:
    """Return the error of each item; ``None`` where there is none.

    Args:
        response: Response of any signature.
        names: Name of each recording in messages.
    """
    texts = [text.decode() for text in _output(response, "error")]
    return [
        AudioError(text.partition(":")[0], f"{name}: {text}") if text else None
        for name, text in zip(names, texts, strict=True)
    ]


def windows_of(response: wire.PredictResponse, *, offset_sec: float) -> list[Segment]:
    """Return the windows of the single recording in a ``timeline`` response, shifted by ``offset_sec``.

    Args:
        response: Response of the ``timeline`` signature.
        offset_sec: Start of the request's audio in the recording, in seconds.
    """
    windows = int(_output(response, "windows")[0])  # empty windows pad a batch with a longer recording
    labels = _output(response, "labels")[0]
    columns = [_output(response, name)[0][:windows] for name in ("emotion", "probabilities", "start_sec", "end_sec")]
    return [
        Segment(
            **vars(_prediction(response, labels, row, emotion, speech)),
            start_sec=offset_sec + float(start_sec),
            end_sec=offset_sec + float(end_sec),
        )
        for emotion, row, start_sec, end_sec, speech in zip(*columns, _speech(response, columns[0]), strict=True)
    ]


def _output(response: wire.PredictResponse, name: str) -> np.ndarray:
    if name not in response.outputs:
        raise UnexpectedAnswer(f"the model's answer has {sorted(response.outputs)}; {name!r} is missing")
    return tensor_values(response.outputs[name])


def tensor_values(tensor: wire.TensorProto) -> np.ndarray:
    """Return the tensor's values from either of TensorProto's two encodings.

    Args:
        tensor: The tensor of a response.

    Raises:
        UnexpectedAnswer: The data type is not one of the model's.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == wire.DT_STRING:
        return np.array(tensor.string_val, dtype=object).reshape(shape)
    if tensor.dtype not in _DTYPES:
        raise UnexpectedAnswer(f"the model answers with tensors of data type {tensor.dtype}; known: {sorted(_DTYPES)}")
    dtype = _DTYPES[tensor.dtype]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype=dtype).reshape(shape)
    values = np.array(getattr(tensor, _FIELDS[tensor.dtype]), dtype=dtype)
    # TensorProto leaves out repetitions of the last value.
    return np.pad(values, (0, int(np.prod(shape)) - len(values)), mode="edge").reshape(shape)
