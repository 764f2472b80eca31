"""Answers of a model in this process, the same as a server's, also to recordings beyond the limits of a request."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import soundfile

from modules.audio import windowing
from modules.audio.decoding import AudioCode
from modules.common import addresses
from modules.export.contract import LEAST_WEIGHT, NO_SPEECH, load_contract
from serving.batch.plan import PushedModel
from serving.client import AudioError, Prediction
from serving.client.predictions import AUDIO_INPUT, batches
from serving.client.recordings import Audio, open_long, read_wav
from serving.server.servable import DEFAULT_SIGNATURE, Servable
from serving.server.tensors import write_array
from serving.wire import predict_pb2 as wire

_BATCH_ITEMS = 16
_BATCH_BYTES = 32 * 1024 * 1024
_BEYOND_LIMITS = (AudioCode.TOO_LONG, AudioCode.TOO_LARGE)


class Answerer:
    """A model in memory. Threads may share it.

    Attributes:
        labels: Names of the probabilities, in order.
    """

    def __init__(self, model: PushedModel) -> None:
        """Load the model.

        Args:
            model: The version to load.
        """
        self._servable = Servable("ser", model.version, model.path)
        self._contract = load_contract(model.path)
        self.labels = self._contract.labels

    def answers(self, recordings: Sequence[str]) -> Iterator[Prediction | AudioError]:
        """Yield the prediction or the error of each recording, in order.

        Args:
            recordings: Addresses of recordings of any length.
        """
        long = {name for name in recordings if self._is_long(name)}
        short = self._whole(name for name in recordings if name not in long)
        for name in recordings:
            answer = self._by_windows(name) if name in long else next(short)
            beyond = isinstance(answer, AudioError) and answer.code in _BEYOND_LIMITS and name not in long
            yield self._by_windows(name) if beyond else answer

    def _is_long(self, name: str) -> bool:
        """Return whether the header of a local file states more than the model takes at once."""
        if addresses.in_bucket(name):
            return False
        try:
            return soundfile.info(name).duration > self._contract.limits.max_duration_sec
        except (soundfile.LibsndfileError, OSError, ValueError):
            return False

    def _whole(self, recordings: Iterable[Audio]) -> Iterator[Prediction | AudioError]:
        for batch in batches(recordings, max_items=_BATCH_ITEMS, max_bytes=_BATCH_BYTES):
            yield from batch.answers(self._run(batch.wavs) if batch.wavs else None)

    def _run(self, wavs: Sequence[bytes]) -> wire.PredictResponse:
        outputs = self._servable.run(DEFAULT_SIGNATURE, {AUDIO_INPUT: np.array(wavs, dtype=object)})
        response = wire.PredictResponse()
        response.model_spec.version.value = self._servable.version
        for name, array in outputs.items():
            write_array(array, response.outputs[name])
        return response

    def _by_windows(self, name: str) -> Prediction | AudioError:
        """Return the answer to a long recording, which is never in memory as a whole."""
        try:
            with open_long(name) as sound:
                answers = list(self._whole(self._windows(sound)))
        except AudioError as error:
            return error
        predictions = [answer for answer in answers if isinstance(answer, Prediction)]
        errors = [answer for answer in answers if isinstance(answer, AudioError)]
        serious = [error for error in errors if error.code != AudioCode.SILENT or not predictions]
        if serious:
            return AudioError(serious[0].code, f"{name}: a window of the recording: {serious[0]}")
        return self._mean(predictions)

    def _windows(self, sound: soundfile.SoundFile) -> Iterator[bytes]:
        """Yield the windows that the model would analyse without a limit, each as WAV."""
        spec, rate_hz = self._contract.audio_spec, sound.samplerate
        samples = sound.frames * spec.sample_rate_hz // rate_hz
        for start in windowing.recording_starts(samples, spec).numpy():
            first = round(int(start) * rate_hz / spec.sample_rate_hz)
            yield read_wav(sound, start_frame=first, frames=round(spec.window_sec * rate_hz))

    def _mean(self, windows: Sequence[Prediction]) -> Prediction:
        """Return the mean of the windows as the model computes it, see :mod:`modules.export.signatures`."""
        speeches = [1.0 if window.speech is None else window.speech for window in windows]
        weights = np.maximum(speeches, LEAST_WEIGHT)
        rows = [[window.probabilities[label] for label in self.labels] for window in windows]
        mean = np.average(rows, axis=0, weights=weights)
        has_speech = max(speeches) >= self._contract.limits.min_speech
        return Prediction(
            emotion=self.labels[int(mean.argmax())] if has_speech else NO_SPEECH,
            probabilities=dict(zip(self.labels, map(float, mean), strict=True)),
            speech=max(speeches),
            model_version=self._servable.version,
        )
