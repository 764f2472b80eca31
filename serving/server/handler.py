"""Processing of a predict request, the same for gRPC and REST."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow_serving.apis import model_pb2

from modules.audio import riff
from serving.server.batching import BatchScheduler
from serving.server.errors import invalid
from serving.server.manager import ModelManager
from serving.server.metrics import Metrics
from serving.server.request_log import RequestLog
from serving.server.servable import DEFAULT_SIGNATURE, Servable

_AUDIO_INPUT = "audio"


@dataclasses.dataclass(frozen=True)
class Answer:
    """Outputs of a request, with the version and signature that computed them."""

    servable: Servable
    signature: str
    outputs: Mapping[str, np.ndarray]


class Handler:
    """Handler that finds the model, checks the inputs and runs them."""

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
        """Return the version that ``spec`` names.

        Args:
            spec: Model with an optional version or label.

        Raises:
            StatusError: The version is not loaded.
        """
        return self.manager.model(spec.name).servable(spec)

    def known_name(self, name: str) -> str:
        """Return ``name``, or ``unknown`` for all unknown models, so that callers cannot create metrics.

        Args:
            name: Name of the model in a request.
        """
        return name if self.manager.has_model(name) else "unknown"

    async def predict(
        self,
        servable: Servable,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
    ) -> Answer:
        """Run one request.

        Args:
            servable: The version to run.
            signature: Name of the signature; the default one when empty.
            inputs: Input arrays by name.
            output_filter: Names of the outputs to return; all when empty.

        Raises:
            StatusError: The request does not fit the model, or the server is overloaded.
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
    """Return the duration in a WAV file's chunks; 0 for an unreadable file, whose error the model reports.

    Opening the file with libsndfile would take a tenth of the model's time.
    """
    data = riff.data_chunk(encoded)
    bytes_per_sec = riff.bytes_per_sec(encoded)
    return min(data.size, len(encoded) - data.start) / bytes_per_sec if data and bytes_per_sec else 0.0


def _chosen(outputs: Mapping[str, np.ndarray], output_filter: Sequence[str]) -> Mapping[str, np.ndarray]:
    if unknown := set(output_filter) - set(outputs):
        raise invalid(f"output_filter names {sorted(unknown)}; the signature's outputs are {sorted(outputs)}")
    return {name: outputs[name] for name in output_filter} if output_filter else outputs
