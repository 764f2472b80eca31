"""Requests from WAV bytes, and predictions from responses."""

import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import soundfile

from modules.audio.decoding import AudioCode
from serving.client.errors import AudioError, UnexpectedAnswer
from serving.client.recordings import Audio, bytes_per_sample, name_of, read_wav, to_wav
from serving.wire import predict_pb2 as wire

AUDIO_INPUT = "audio"
WAV_HEADER_BYTES = 64
CHUNK_SEC = 30.0

_DTYPES = {wire.DT_FLOAT: np.float32, wire.DT_INT32: np.int32, wire.DT_INT64: np.int64}
_FIELDS = {wire.DT_FLOAT: "float_val", wire.DT_INT32: "int_val", wire.DT_INT64: "int64_val"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """Emotion in one recording.

    Attributes:
        emotion: The most probable emotion, or ``no_speech``.
        probabilities: Probability of each emotion of the model; the sum is 1.
        speech: Probability that the recording holds speech; ``None`` of a model that does not return it.
        model_version: The version that answered; ``None`` where the response does not name it (TF Serving's REST).
    """

    emotion: str
    probabilities: dict[str, float]
    speech: float | None
    model_version: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment(Prediction):
    """Emotion between two times of a long recording, in seconds."""

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


class Batch:
    """Recordings for one request, some of which the client cannot read.

    Attributes:
        wavs: The WAV files to send; empty when none can be read.
    """

    def __init__(self) -> None:
        self.wavs: list[bytes] = []
        self._items: list[str | AudioError] = []  # for sent recordings, their names

    def add(self, name: str, wav: bytes | AudioError) -> None:
        """Add a recording, or the error of one that the client cannot read.

        Args:
            name: Name of the recording in messages.
            wav: The encoded WAV file, or the error.
        """
        if isinstance(wav, AudioError):
            self._items.append(wav)
        else:
            self._items.append(name)
            self.wavs.append(wav)

    def has_room(self, wav: bytes | AudioError, *, max_items: int, max_bytes: int) -> bool:
        """Return whether a further recording fits; the first always does.

        Args:
            wav: The encoded WAV file, or the error.
            max_items: Largest number of files.
            max_bytes: Largest size of all files together.
        """
        if isinstance(wav, AudioError) or not self.wavs:
            return True
        return len(self.wavs) < max_items and sum(map(len, self.wavs)) + len(wav) <= max_bytes

    def answers(self, response: wire.PredictResponse | None) -> Iterator[Prediction | AudioError]:
        """Yield the prediction or the error of each recording, in order.

        Args:
            response: The response to :attr:`wavs`; ``None`` when nothing was sent.
        """
        sent = [item for item in self._items if isinstance(item, str)]
        answered = iter(_predictions(response, sent) if response else ())
        for item in self._items:
            yield item if isinstance(item, AudioError) else next(answered)


def batches(recordings: Iterable[Audio], *, max_items: int, max_bytes: int) -> Iterator[Batch]:
    """Yield consecutive batches of at least one file each.

    Args:
        recordings: The recordings to send.
        max_items: Largest number of files of a batch.
        max_bytes: Largest size of a batch of several files.
    """
    batch = Batch()
    for audio in recordings:
        wav = _wav_or_error(audio)
        if not batch.has_room(wav, max_items=max_items, max_bytes=max_bytes):
            yield batch
            batch = Batch()
        batch.add(name_of(audio), wav)
    yield batch


def prediction_or_raise(answer: Prediction | AudioError) -> Prediction:
    """Return the prediction, or raise the error.

    Args:
        answer: The prediction or the error.
    """
    if isinstance(answer, AudioError):
        raise answer
    return answer


def _wav_or_error(audio: Audio) -> bytes | AudioError:
    try:
        return to_wav(audio)
    except AudioError as error:
        return error


def _predictions(response: wire.PredictResponse, names: Sequence[str]) -> list[Prediction | AudioError]:
    """Return the prediction or error of each item of the batch; errors contain the recording's name."""
    labels, probabilities, emotions = (_output(response, name) for name in ("labels", "probabilities", "emotion"))
    version = _version(response)
    return [
        error
        or Prediction(emotion=emotion.decode(), probabilities=_named(label, row), speech=speech, model_version=version)
        for label, row, emotion, speech, error in zip(
            labels, probabilities, emotions, _speech(response, emotions), _errors(response, names), strict=True
        )
    ]


def _speech(response: wire.PredictResponse, emotions: np.ndarray) -> list[float | None]:
    """Return the probability of speech for each of the emotions of a recording or of recordings."""
    if "speech" not in response.outputs:
        return [None] * len(emotions)
    return [float(value) for value in tensor_values(response.outputs["speech"]).ravel()[: len(emotions)]]


def _errors(response: wire.PredictResponse, names: Sequence[str]) -> list[AudioError | None]:
    """Return the error of each item; ``None`` where there is none."""
    texts = [text.decode() for text in _output(response, "error")]
    return [
        AudioError(text.partition(":")[0], f"{name}: {text}") if text else None
        for name, text in zip(names, texts, strict=True)
    ]


def segments(response: wire.PredictResponse, *, offset_sec: float) -> list[Segment]:
    """Return the windows of the single recording in a ``timeline`` response, shifted by ``offset_sec``.

    Args:
        response: Response of the ``timeline`` signature.
        offset_sec: Start of the request's audio in the recording, in seconds.
    """
    names = ("probabilities", "emotion", "start_sec", "end_sec")
    windows = int(_output(response, "windows")[0])  # empty windows pad a batch with a longer recording
    labels, columns = _output(response, "labels")[0], [_output(response, name)[0][:windows] for name in names]
    version = _version(response)
    speeches = _speech(response, columns[1])
    return [
        Segment(
            emotion=emotion.decode(),
            probabilities=_named(labels, row),
            speech=speech,
            model_version=version,
            start_sec=offset_sec + float(start_sec),
            end_sec=offset_sec + float(end_sec),
        )
        for row, emotion, start_sec, end_sec, speech in zip(*columns, speeches, strict=True)
    ]


class Timeline:
    """A long recording, cut into requests whose responses join into one timeline.

    The model decides about windows and the step between them: they are evenly spaced, except that the last one is
    moved back to end with the chunk. That window of every chunk but the last is dropped, and the next chunk starts at
    the regular start of that window. A chunk of silence has no segments, because the model refuses silence; of a chunk
    that is too long for the model, the first half is sent.
    """

    def __init__(self, sound: soundfile.SoundFile, name: str, *, max_bytes: int) -> None:
        bytes_per_sec = bytes_per_sample(sound) * sound.channels * sound.samplerate
        chunk_sec = min(CHUNK_SEC, (max_bytes - WAV_HEADER_BYTES) / bytes_per_sec)
        self._sound = sound
        self._name = name
        self._chunk_frames = int(chunk_sec * sound.samplerate)
        self._start_frame = 0
        self._skipped: AudioError | None = None
        self._has_segments = False

    def next_chunk(self) -> bytes | None:
        """Return the WAV bytes to send next, or ``None`` after the last.

        Raises:
            AudioError: No part of the recording could be used.
        """
        if self._start_frame >= self._sound.frames:
            if self._skipped and not self._has_segments:
                raise self._skipped
            return None
        return read_wav(self._sound, start_frame=self._start_frame, frames=self._chunk_frames)

    def _skip(self, error: AudioError) -> None:
        if error.code == AudioCode.SILENT:
            self._start_frame += self._chunk_frames
        elif error.code == AudioCode.TOO_SHORT and self._start_frame:  # the rest after silence
            self._start_frame = self._sound.frames
        elif error.code == AudioCode.TOO_LONG and self._chunk_frames > 1:
            self._chunk_frames //= 2
        else:
            raise error

    def accept(self, response: wire.PredictResponse) -> list[Segment]:
        """Return the segments that the response to the last chunk adds.

        Args:
            response: Response of the ``timeline`` signature to the last chunk.

        Raises:
            AudioError: The model cannot use the recording.
            UnexpectedAnswer: The response is not that of a ``timeline`` signature, or has too few windows.
        """
        (error,) = _errors(response, [self._name])
        if error:
            self._skip(error)
            self._skipped = error
            return []
        self._has_segments = True
        rate_hz = self._sound.samplerate
        new = segments(response, offset_sec=self._start_frame / rate_hz)
        if self._start_frame + self._chunk_frames >= self._sound.frames:
            self._start_frame = self._sound.frames
            return new
        if len(new) < 3:
            raise UnexpectedAnswer(
                f"the model's timeline has {len(new)} windows in {self._chunk_frames / rate_hz:.1f} s, the most that "
                "this address and model take at once; 3 are needed to go on. Resample the recording to a lower rate."
            )
        step_sec = new[1].start_sec - new[0].start_sec
        window_sec = new[0].end_sec - new[0].start_sec
        last_start = self._sound.frames - round(window_sec * rate_hz)
        self._start_frame = min(round((new[-2].start_sec + step_sec) * rate_hz), last_start)
        return new[:-1]


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


def _named(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    return {label.decode(): float(value) for label, value in zip(labels, probabilities, strict=True)}


def _version(response: wire.PredictResponse) -> int | None:
    return response.model_spec.version.value if response.model_spec.HasField("version") else None
