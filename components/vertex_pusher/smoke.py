"""Smoke test of a newly deployed version: the model's warm-up requests, sent through the endpoint.

A request cannot select a version of an endpoint. But the response to RawPredict names the deployment and so the
version, and each request is repeated until the new version has answered it.
"""

import contextlib
import itertools
import math
import time
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from components.serving_validator.requests import largest_difference, warmup_requests
from serving.client.errors import ServerUnreachable
from serving.client.transport import Transport, connect
from serving.rollout.state import RolloutError
from serving.rollout.vertex import MODEL_NAME
from serving.server.servable import Servable
from serving.wire import predict_pb2 as wire

TOLERANCE = 1e-3
"""Largest allowed difference of a probability, since the endpoint's machine rounds in another way."""

_TIMEOUT_SEC = 60.0
_MISS_PROBABILITY = 1e-6
_PAUSE_SEC = 0.05


def check(address: str, percent: int, *, model_dir: str, version: str, patience_sec: float) -> None:
    """Compare the version's predictions with those of the SavedModel.

    Args:
        address: Address of the endpoint.
        percent: Percentage of the requests that the version gets.
        model_dir: Folder of the SavedModel, with warm-up requests.
        version: The version.
        patience_sec: Seconds that the endpoint may need to apply the new traffic split, during which the version may
            get no request and requests may fail.

    Raises:
        RolloutError: The version did not answer, or its predictions differ from the model's.
        serving.client.errors.RequestFailed: The endpoint answered with an error.
    """
    own = Servable(MODEL_NAME, int(version), model_dir)
    requests = list(warmup_requests(model_dir))
    if not requests:
        raise RolloutError(f"{model_dir} has no warm-up requests; push a model that this project exported")
    with contextlib.closing(connect(address)) as transport:
        for request in requests:
            request.model_spec.name = MODEL_NAME
            answer = _answer_of(version, transport, request, tries=_tries(percent), patience_sec=patience_sec)
            gap = largest_difference(own.run(request.model_spec.signature_name, _inputs(request)), answer)
            if not gap <= TOLERANCE:
                raise RolloutError(
                    f"version {version} on {address} differs from the pushed model by {gap:g} in signature "
                    f"{request.model_spec.signature_name!r}; at most {TOLERANCE:g} is allowed"
                )


def _inputs(request: Any) -> dict[str, np.ndarray]:
    return {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}


def _answer_of(version: str, transport: Transport, request: Any, *, tries: int, patience_sec: float) -> Any:
    """Return output tensors by name."""
    encoded = wire.PredictRequest.FromString(request.SerializeToString())
    deadline_sec = time.monotonic() + patience_sec
    others: set[str] = set()
    for count in itertools.count(1):
        try:
            answer = transport.predict(encoded, timeout_sec=_TIMEOUT_SEC)
        except ServerUnreachable:
            if time.monotonic() >= deadline_sec:
                raise
            time.sleep(_PAUSE_SEC)
            continue
        decoded = predict_pb2.PredictResponse.FromString(answer.SerializeToString())
        answering = str(decoded.model_spec.version.value)
        if answering == version:
            return {name: tf.make_ndarray(tensor) for name, tensor in decoded.outputs.items()}
        others.add(answering)
        if count >= tries and time.monotonic() >= deadline_sec:
            break
        time.sleep(_PAUSE_SEC)
    raise RolloutError(f"version {version} answered none of {count} requests; those went to {sorted(others)}")


def _tries(percent: int) -> int:
    """Return a number of requests of which a version with this share misses all with a probability of one in a million.

    The number is the least n with (1 - share)^n at most that probability.
    """
    return 1 if percent >= 100 else math.ceil(math.log(_MISS_PROBABILITY) / math.log(1 - percent / 100))
