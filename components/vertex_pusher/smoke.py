"""Smoke test of a newly deployed version: the model's warm-up requests are sent through the endpoint.

A request cannot choose a version of an endpoint. But the answer to RawPredict names its deployment, and so
the version: each request is repeated until the new version has answered it.
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
"""Of a probability: the endpoint's machine rounds otherwise than this one."""

_TIMEOUT_SEC = 60.0
_CHANCE_OF_BAD_LUCK = 1e-6
_PAUSE_SEC = 0.05


def check(address: str, percent: int, *, model_dir: str, version: str, patience_sec: float) -> None:
    """Compare the version's answers with those of the SavedModel itself.

    Args:
        address: Address of the endpoint.
        percent: Share of the requests that the version gets, in percent.
        model_dir: Folder of the SavedModel.
        version: Number of the version.
        patience_sec: Time until the traffic split must be in effect, in seconds; until then the version may get no
            request, or no request may be answered.

    Raises:
        RolloutError: The version did not answer, or its answers differ from those of the model.
        serving.client.errors.RequestFailed: The endpoint answered with an error.
    """
    own = Servable(MODEL_NAME, int(version), model_dir)
    asked = list(warmup_requests(model_dir))
    if not asked:
        raise RolloutError(f"{model_dir} has no warm-up requests to ask: it was not exported by this project")
    with contextlib.closing(connect(address)) as transport:
        for request in asked:
            request.model_spec.name = MODEL_NAME
            answer = _answer_of(version, transport, request, tries=_tries(percent), patience_sec=patience_sec)
            gap = largest_difference(own.run(request.model_spec.signature_name, _inputs(request)), answer)
            if not gap <= TOLERANCE:
                raise RolloutError(
                    f"asked for signature {request.model_spec.signature_name!r} on {address}, version {version} "
                    f"answers otherwise than the model that was pushed: by {gap:g}, at most {TOLERANCE:g} is allowed"
                )


def _inputs(request: Any) -> dict[str, np.ndarray]:
    return {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}


def _answer_of(version: str, transport: Transport, request: Any, *, tries: int, patience_sec: float) -> Any:
    """Output tensors by name."""
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
    """Return how many requests reach a version with this share, except with a chance of one in a million."""
    return 1 if percent >= 100 else math.ceil(math.log(_CHANCE_OF_BAD_LUCK) / math.log(1 - percent / 100))
