"""What a predict request goes through, whichever way it came in."""

import dataclasses
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow_serving.apis import model_pb2

from serving.server.batching import BatchScheduler
from serving.server.errors import invalid
from serving.server.manager import ModelManager
from serving.server.metrics import Metrics
from serving.server.request_log import RequestLog
from serving.server.servable import DEFAULT_SIGNATURE, Servable

_AUDIO_INPUT = "audio"
_RIFF_HEADER_BYTES = 12
_CHUNK_HEADER = struct.Struct("<4sI")
_FORMAT = struct.Struct("<8xI4x")  # of the fmt chunk, the bytes per second


@dataclasses.dataclass(frozen=True)
class Answer:
    """Outputs, and the model that gave them."""

    servable: Servable
    signature: str
    outputs: Mapping[str, np.ndarray]


class Handler:
    """Finds the model, checks the inputs, runs them, keeps count."""

    def __init__(
        self,
        manager: ModelManager,
        scheduler: BatchScheduler,
        metrics: Metrics,
        request_log: RequestLog,
        *,
        max_audio_sec: float,
    ) -> None:
        self.manager = manager
        self.metrics = metrics
        self._scheduler = scheduler
        self._request_log = request_log
        self._max_audio_sec = max_audio_sec

    def servable(self, spec: model_pb2.ModelSpec) -> Servable:
        """The version that ``spec`` asks for; raises :class:`serving.server.errors.Fault` when it is not loaded."""
        return self.manager.model(spec.name).servable(spec)

    def known_name(self, name: str) -> str:
        """``name``, or one word for all that are unknown: callers must not be able to create metrics."""
        return name if self.manager.knows(name) else "unknown"

    async def predict(
        self,
        servable: Servable,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
    ) -> Answer:
        """Runs one request.

        Raises:
            Fault: The request does not fit the model, or the server is overloaded.
        """
        signature = signature or DEFAULT_SIGNATURE
        servable.check(signature, inputs)
        self._require_short(inputs)
        with servable.in_use():
            outputs = await self._scheduler.run(servable, signature, inputs)
        self._request_log.offer(servable, signature, inputs, outputs)
        return Answer(servable, signature, _chosen(outputs, output_filter))

    def _require_short(self, inputs: Mapping[str, np.ndarray]) -> None:
        for index, encoded in enumerate(inputs.get(_AUDIO_INPUT, ())):
            duration_sec = _duration_sec(encoded)
            if duration_sec > self._max_audio_sec:
                raise invalid(
                    f"item {index}: the recording is {duration_sec:.1f} s long; at most {self._max_audio_sec:g} s are "
                    "allowed at once. Cut it into parts; the client's timeline does."
                )


def _duration_sec(encoded: bytes) -> float:
    """Length that a WAV file's chunks promise; 0 for what cannot be read, of which the model says what is wrong.

    Opening the file with libsndfile would take a tenth of the time that the model takes.
    """
    position, bytes_per_sec = _RIFF_HEADER_BYTES, 0
    while position + _CHUNK_HEADER.size <= len(encoded):
        chunk_id, chunk_bytes = _CHUNK_HEADER.unpack_from(encoded, position)
        position += _CHUNK_HEADER.size
        if chunk_id == b"fmt " and position + _FORMAT.size <= len(encoded):
            (bytes_per_sec,) = _FORMAT.unpack_from(encoded, position)
        if chunk_id == b"data":
            present_bytes = min(chunk_bytes, len(encoded) - position)
            return present_bytes / bytes_per_sec if bytes_per_sec else 0.0
        position += chunk_bytes + chunk_bytes % 2
    return 0.0


def _chosen(outputs: Mapping[str, np.ndarray], output_filter: Sequence[str]) -> Mapping[str, np.ndarray]:
    if unknown := set(output_filter) - set(outputs):
        raise invalid(f"output_filter names {sorted(unknown)}; the signature's outputs are {sorted(outputs)}")
    return {name: outputs[name] for name in output_filter} if output_filter else outputs
